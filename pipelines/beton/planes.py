"""Compiled: from a JPEG's component planes to its RGB pixels, byte for byte as libjpeg upsamples and converts them.

A JPEG is decoded in two steps: Huffman codes and the inverse DCT give planes of luma (Y) and of chroma (Cb, Cr), which
may have half as many rows or columns; upsampling and colour conversion make pixels of them. Stored planes are what lies
between the steps: Y, then Cb, then Cr, each [rows, columns] of bytes without gaps. The formulas are libjpeg-turbo's,
"fancy" upsampling included, which Pillow uses.

Each loop is a function of its own over contiguous memory, and int16 wherever libjpeg's numbers fit: so LLVM compiles
them to vectors. Only the rows and columns that some crop touches are converted.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.augment.kernel import borrowed, kernel
from pipelines.beton.colour import convert_row, weave
from pipelines.beton.format import GREY, HALF_COLUMNS, HALF_ROWS, QUARTER

_MIDDLE = np.int16(128)
_ONE, _TWO, _THREE, _SEVEN, _EIGHT = (np.int16(number) for number in (1, 2, 3, 7, 8))
_NOT_SMOOTHED = 2
"""Planes of so few columns are repeated, not interpolated, where libjpeg doubles the columns."""


def rgb_of(kind: int, planes: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Returns the whole picture, uint8 [height, width, 3], of planes of a kind, uint8 [bytes]."""
    given, rgb = planes.view(), np.empty(3 * height * width, np.uint8)
    given.flags.writeable = False  # one type, compiled once
    planes_to_rgb(given, np.uint8(kind), height, width, np.array([[[0, 0, height, width]]], np.int32), 0, rgb)
    return rgb.reshape(height, width, 3)


@kernel
def planes_to_rgb(
    planes: NDArray[np.uint8],
    kind: np.uint8,
    height: int,
    width: int,
    crop: NDArray[np.int32],
    sample: int,
    rgb: NDArray[np.uint8],
) -> None:
    """Writes the pixels that a sample's crops [v, n, 4] (top, left, height, width) touch to uint8 rgb [3 · h · w].

    ``planes`` are uint8 [bytes], ``kind`` is one of format's; the other pixels of ``rgb`` are left as they are.
    """
    # Each row's chroma, in whole pairs; its sums have one more at either end.
    numbers, colours = np.empty((3, width + 4), np.int16), np.empty((3, width), np.uint8)
    _convert(planes, kind, height, width, crop, sample, numbers, colours, rgb)


@kernel
def _convert(
    planes: NDArray[np.uint8],
    kind: np.uint8,
    height: int,
    width: int,
    crop: NDArray[np.int32],
    sample: int,
    numbers: NDArray[np.int16],
    colours: NDArray[np.uint8],
    rgb: NDArray[np.uint8],
) -> None:
    """Does what ``planes_to_rgb`` does, row by row, with scratch memory [3, width + 4] and [3, width]."""
    planes, crop, rgb = borrowed(planes), borrowed(crop), borrowed(rgb)
    numbers, colours = borrowed(numbers), borrowed(colours)
    sums, cb, cr = numbers[0], numbers[1], numbers[2]
    r, g, b = colours[0], colours[1], colours[2]
    down, across = int(kind in (HALF_ROWS, QUARTER)), int(kind in (HALF_COLUMNS, QUARTER))  # 1: half as many
    rows, columns = (height + down) >> down, (width + across) >> across
    luma, blue = planes[: height * width], planes[height * width : height * width + rows * columns]
    red = planes[height * width + blue.size :]
    for y in range(height):
        first, last = _reach(crop, sample, y)
        if first >= last:
            continue
        first, count = first & ~1, last - (first & ~1)
        out = rgb[3 * (y * width + first) : 3 * (y * width + last)]
        grey = luma[y * width + first : y * width + last]
        if kind == GREY:
            weave(grey, grey, grey, out)
            continue
        _chroma_row(blue, rows, columns, down, across, y, first, count, sums, cb)
        _chroma_row(red, rows, columns, down, across, y, first, count, sums, cr)
        convert_row(grey, cb, cr, r, g, b)
        weave(r[:count], g, b, out)


@kernel
def _reach(crop: NDArray[np.int32], sample: int, y: int) -> tuple[int, int]:
    """Returns the columns [first, last) of row ``y`` that lie within some crop; none where first ≥ last."""
    first, last = np.int64(1 << 30), np.int64(0)
    for view in range(crop.shape[0]):
        top, left = np.int64(crop[view, sample, 0]), np.int64(crop[view, sample, 1])
        if top <= y < top + np.int64(crop[view, sample, 2]):
            first, last = min(first, left), max(last, left + np.int64(crop[view, sample, 3]))
    return int(first), int(last)


@kernel
def _chroma_row(
    plane: NDArray[np.uint8],
    rows: int,
    columns: int,
    down: int,
    across: int,
    y: int,
    first: int,
    count: int,
    sums: NDArray[np.int16],
    out: NDArray[np.int16],
) -> None:
    """Upsamples one chroma plane [rows · columns] for ``count`` pixels of row ``y`` from the even column ``first`` on.

    ``out`` gets them less 128, and perhaps one more; ``sums`` [columns + 2] is scratch.
    """
    repeated = across == 1 and columns <= _NOT_SMOOTHED
    row, begin, end = y >> down, first >> across, (first + count + across) >> across
    # The neighbours on either side are needed where columns are doubled.
    low, high = (max(begin - 1, 0), min(end + 1, columns)) if across == 1 else (begin, end)
    near = plane[row * columns + low : row * columns + high]
    if down == 0 or repeated:
        _copied(near, sums[low + 1 : high + 1])
    else:
        other = min(max(row + 1 if y & 1 else row - 1, 0), rows - 1)
        _added(near, plane[other * columns + low : other * columns + high], sums[low + 1 : high + 1])
    own = sums[begin + 1 : end + 1]
    if across == 0:
        if down == 0:
            _centred(own, out)
        elif y & 1:
            _quartered(own, np.int16(2), out)
        else:
            _quartered(own, np.int16(1), out)
        return
    sums[0], sums[columns + 1] = sums[1], sums[columns]
    if repeated:
        _repeated(own, out)
    elif down == 0:
        _doubled(sums[begin:end], own, sums[begin + 2 : end + 2], out)
    else:
        _doubled_sums(sums[begin:end], own, sums[begin + 2 : end + 2], out)


@kernel
def _copied(near: NDArray[np.uint8], sums: NDArray[np.int16]) -> None:
    """Writes a row as it is."""
    for x in range(near.size):
        sums[x] = np.int16(near[x])


@kernel
def _added(near: NDArray[np.uint8], far: NDArray[np.uint8], sums: NDArray[np.int16]) -> None:
    """Writes three times the nearer row and once the farther one."""
    for x in range(near.size):
        sums[x] = np.int16(np.int16(_THREE * np.int16(near[x])) + np.int16(far[x]))


@kernel
def _centred(sums: NDArray[np.int16], out: NDArray[np.int16]) -> None:
    """Writes a row whose chroma is as large as the picture."""
    for x in range(sums.size):
        out[x] = np.int16(sums[x] - _MIDDLE)


@kernel
def _quartered(sums: NDArray[np.int16], bias: np.int16, out: NDArray[np.int16]) -> None:
    """Writes a row between two rows of chroma, of whose columns there are as many as the picture's."""
    for x in range(sums.size):
        out[x] = np.int16(np.int16(np.int16(sums[x] + bias) >> 2) - _MIDDLE)


@kernel
def _repeated(sums: NDArray[np.int16], out: NDArray[np.int16]) -> None:
    """Writes each value twice."""
    for x in range(sums.size):
        out[2 * x] = out[2 * x + 1] = np.int16(sums[x] - _MIDDLE)


@kernel
def _doubled(
    left: NDArray[np.int16], middle: NDArray[np.int16], right: NDArray[np.int16], out: NDArray[np.int16]
) -> None:
    """Writes two values for each one of a row, the nearer neighbour of each a quarter of it."""
    for x in range(middle.size):
        three = np.int16(_THREE * middle[x])
        out[2 * x] = np.int16(np.int16(np.int16(np.int16(three + left[x]) + _ONE) >> 2) - _MIDDLE)
        out[2 * x + 1] = np.int16(np.int16(np.int16(np.int16(three + right[x]) + _TWO) >> 2) - _MIDDLE)


@kernel
def _doubled_sums(
    left: NDArray[np.int16], middle: NDArray[np.int16], right: NDArray[np.int16], out: NDArray[np.int16]
) -> None:
    """Writes two values for each of the sums of two rows, which are four times as large."""
    for x in range(middle.size):
        three = np.int16(_THREE * middle[x])
        out[2 * x] = np.int16(np.int16(np.int16(np.int16(three + left[x]) + _EIGHT) >> 4) - _MIDDLE)
        out[2 * x + 1] = np.int16(np.int16(np.int16(np.int16(three + right[x]) + _SEVEN) >> 4) - _MIDDLE)
