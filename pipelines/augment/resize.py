"""Pillow's ``crop().resize(BILINEAR)`` byte for byte: two separable passes with 22-bit fixed-point weights.

Shapes: image uint8 [H, W, 3] in C order; crop (top, left, height, width) int32 [4]; resized (height, width) int32 [2];
window (top, left) int32 [2] within the resized crop; out uint8 [size, size, 3] in C order; scratch uint8 [bytes].
A *plane* is a flat uint8 array of rows ``stride`` bytes apart.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.augment.kernel import kernel
from pipelines.augment.weighted_sums import (
    BITS,
    COLUMNS,
    LOW_BITS,
    READ,
    ROWS,
    last_pixel_of_rows,
    pixel_of_row,
    pixel_of_rows,
    sum_of_rows,
)

_HALF = 1 << (BITS - 1)
_ONE = 1 << BITS
_LOW = (1 << LOW_BITS) - 1


@kernel
def resize_into(
    image: NDArray[np.uint8],
    crop: NDArray[np.int32],
    resized: NDArray[np.int32],
    window: NDArray[np.int32],
    mirror: bool,
    scratch: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """Cuts ``crop`` out of ``image``, resizes it and writes its ``window``, mirrored or not, to ``out``.

    A pass that changes nothing needs no case of its own: its weights are exactly 0 and 1.
    """
    size, stride = out.shape[0], 3 * image.shape[1]
    height, width = np.int64(crop[2]), np.int64(crop[3])
    start_y, weight_y, taps_y = _weights(height, np.int64(resized[0]), np.int64(window[0]), size)
    start_x, weight_x, taps_x = _weights(width, np.int64(resized[1]), np.int64(window[1]), size)
    # Only the rows and columns that the window reads: starts rise from the first output to the last.
    row, column = start_y[0], start_x[0]
    rows, columns = start_y[size - 1] + taps_y - row, start_x[size - 1] + taps_x - column
    plane, finished = image.reshape(-1)[(crop[0] + row) * stride + 3 * (crop[1] + column) :], out.reshape(-1)
    # The bytes depend on the order of the passes (uint8 between them). Pillow 13's rule, found by experiment.
    if height > resized[0] and height - resized[0] > 2 * (width - resized[1]):
        middle = scratch[: size * 3 * columns]
        _vertical(plane, stride, 3 * columns, start_y, weight_y, taps_y, middle)
        _horizontal(middle, 3 * columns, size, columns, start_x, weight_x, taps_x, mirror, finished)
    else:
        middle = scratch[: rows * 3 * size]
        _horizontal(plane, stride, rows, columns, start_x, weight_x, taps_x, mirror, middle)
        _vertical(middle, 3 * size, 3 * size, start_y, weight_y, taps_y, finished)


@kernel
def scratch_bytes(crop: NDArray[np.int32], size: int) -> int:
    """Returns the bytes that the crops [..., 4] need for views of ``size`` pixels: the picture between the passes."""
    longest, crops = size, crop.reshape(-1, 4)
    for number in range(len(crops)):
        longest = max(longest, int(crops[number, 2]), int(crops[number, 3]))
    return 3 * size * longest


@kernel
def _reach(length: int, resized: int, output: int) -> tuple[int, int]:
    """Returns the inputs [low, high) of ``length`` that one of ``resized`` outputs averages."""
    scale = length / resized
    radius = max(scale, 1.0)
    centre = (output + 0.5) * scale
    return max(int(centre - radius + 0.5), 0), min(int(centre + radius + 0.5), length)


@kernel
def _weights(length: int, resized: int, first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """Returns the outputs first … first + count - 1: start [count], weights [count · pairs · 2], and their taps.

    All outputs have as many taps; short ones (at an edge) get zeros, placed such that no tap lies outside.
    """
    scale = length / resized
    shrink = 1.0 / max(scale, 1.0)
    taps = 0
    for output in range(first, first + count):
        low, high = _reach(length, resized, output)
        taps = max(taps, high - low)
    pairs = (taps + 1) // 2
    start, weight, triangle = np.empty(count, np.int64), np.zeros(count * pairs * 2, np.int32), np.empty(taps)
    for i in range(count):
        low, high = _reach(length, resized, first + i)
        start[i] = min(low, length - taps)
        centre, total = (first + i + 0.5) * scale, 0.0
        for k in range(high - low):
            triangle[k] = max(1.0 - abs((k + low - centre + 0.5) * shrink), 0.0)
            total += triangle[k]
        for k in range(high - low):
            number = int(triangle[k] / total * _ONE + 0.5)
            tap = low - start[i] + k
            at, shift = 2 * (i * pairs + tap // 2), 16 * (tap % 2)
            weight[at] |= np.int32((number & _LOW) << shift)
            weight[at + 1] |= np.int32((number >> LOW_BITS) << shift)
    return start, weight, taps


@kernel
def _vertical(
    plane: NDArray[np.uint8],
    stride: int,
    count: int,
    start: NDArray[np.int64],
    weight: NDArray[np.int32],
    taps: int,
    out: NDArray[np.uint8],
) -> None:
    """Makes each row of ``out`` [n · count] a weighted sum of ``taps`` rows of the plane, ``count`` bytes of each."""
    pairs = (taps + 1) // 2
    blocks = (count + COLUMNS - 1) // COLUMNS if count >= COLUMNS else 0
    for y in range(start.size):
        at = (start[y] - start[0]) * stride
        for block in range(blocks):
            byte = min(block * COLUMNS, count - COLUMNS)  # the last block overlaps the one before
            sum_of_rows(plane, at + byte, stride, weight, 2 * pairs * y, taps, out, y * count + byte)
        for byte in range(count if blocks == 0 else 0):
            total = _HALF
            for k in range(taps):
                where, shift = 2 * (y * pairs + k // 2), 16 * (k % 2)
                number = ((weight[where] >> shift) & 0xFFFF) + (((weight[where + 1] >> shift) & 0xFFFF) << LOW_BITS)
                total += number * np.int64(plane[at + k * stride + byte])
            out[y * count + byte] = np.uint8(total >> BITS)


@kernel
def _horizontal(
    plane: NDArray[np.uint8],
    stride: int,
    rows: int,
    columns: int,
    start: NDArray[np.int64],
    weight: NDArray[np.int32],
    taps: int,
    mirror: bool,
    out: NDArray[np.uint8],
) -> None:
    """Makes each pixel of ``out`` [rows · n · 3] a weighted sum of ``taps`` neighbours in its row of the plane."""
    size, pairs = start.size, (taps + 1) // 2
    # A pair is read with bytes behind it. After the last rows' there may be none, so these rows move out first.
    safe = min(max((plane.size - 3 * columns - READ) // stride + 1, 0), rows) // ROWS * ROWS
    for y in range(0, safe, ROWS):
        for x in range(size):
            i = size - 1 - x if mirror else x
            at, where = y * stride + 3 * (start[i] - start[0]), 3 * (y * size + x)
            # From left to right: the byte too many is the next pixel's, which is yet to come.
            if x < size - 1:
                pixel_of_rows(plane, at, stride, weight, 2 * pairs * i, pairs, out, where, 3 * size)
            else:
                last_pixel_of_rows(plane, at, stride, weight, 2 * pairs * i, pairs, out, where, 3 * size)
    padded = np.zeros(3 * columns + READ, np.uint8)
    for y in range(safe, rows):
        for byte in range(3 * columns):
            padded[byte] = plane[y * stride + byte]
        for x in range(size):
            i = size - 1 - x if mirror else x
            at = 3 * (start[i] - start[0])
            pixel_of_row(padded, at, at, weight, 2 * pairs * i, pairs, out, 3 * (y * size + x), at)
