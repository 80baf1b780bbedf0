"""RandAugment's 16 operations on the CPU, byte for byte Pillow's: a table per channel, a blend, or an affine gather.

Shapes: view and spare uint8 [h, w, 3] in C order, changed in place; h and w below 32768.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import ops
from pipelines.augment.kernel import kernel
from pipelines.augment.operation_tables import ONE, OperationTables
from pipelines.augment.ops import Op

_LEVELS = ops.LEVELS
# Compiled code takes numbers from plain module variables, not from an enum.
_AUTO_CONTRAST, _COLOR, _CONTRAST, _EQUALIZE = int(Op.AutoContrast), int(Op.Color), int(Op.Contrast), int(Op.Equalize)
_IDENTITY, _ROTATE, _SHARPNESS = int(Op.Identity), int(Op.Rotate), int(Op.Sharpness)
_SHEAR_X, _SHEAR_Y = int(Op.ShearX), int(Op.ShearY)
_TRANSLATE_X, _TRANSLATE_Y = int(Op.TranslateX), int(Op.TranslateY)


@kernel
def augment(
    view: NDArray[np.uint8],
    op: NDArray[np.uint8],
    level: NDArray[np.int8],
    tables: OperationTables,
    spare: NDArray[np.uint8],
) -> None:
    """Applies the operations op [k] at signed levels [k] to ``view``, in order; ``spare`` is as large, for scratch."""
    for k in range(op.size):
        which, at = np.int64(op[k]), np.int64(level[k]) + _LEVELS
        if which == _IDENTITY:
            continue
        if which == _COLOR:
            _color(view, tables.value[which, at])
        elif which == _SHARPNESS:
            _copy(view.reshape(-1), spare.reshape(-1))
            _sharpness(spare, tables.value[which, at], view)
        elif which in (_ROTATE, _SHEAR_X, _SHEAR_Y, _TRANSLATE_X, _TRANSLATE_Y):
            _copy(view.reshape(-1), spare.reshape(-1))
            _affine(spare, tables.affine[which, at], view)
        elif which == _AUTO_CONTRAST:
            _look_up(_stretched(_histogram(view)), view)
        elif which == _EQUALIZE:
            _look_up(_equalized(_histogram(view)), view)
        elif which == _CONTRAST:
            _look_up(_contrasted(_mean_grey(view), tables.value[which, at]), view)
        else:
            point = np.empty((3, 256), np.uint8)
            point[:] = tables.point[which, at]
            _look_up(point, view)


@kernel
def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Does target[:] = source, both flat: numba's slice assignment takes 15 times as long as this loop (a memcpy)."""
    for j in range(source.size):
        target[j] = source[j]


@kernel
def _look_up(table: NDArray[np.uint8], view: NDArray[np.uint8]) -> None:
    """Replaces every value by its entry in table [3, 256]."""
    red, green, blue = table[0], table[1], table[2]
    flat = view.reshape(-1, 3)
    for i in range(flat.shape[0]):
        flat[i, 0] = red[flat[i, 0]]
        flat[i, 1] = green[flat[i, 1]]
        flat[i, 2] = blue[flat[i, 2]]


@kernel
def _histogram(view: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Counts [3, 256] of the values of each channel."""
    count = np.zeros((3, 256), np.int32)
    flat = view.reshape(-1, 3)
    for i in range(flat.shape[0]):
        count[0, flat[i, 0]] += 1
        count[1, flat[i, 1]] += 1
        count[2, flat[i, 2]] += 1
    return count


@kernel
def _stretched(histogram: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Stretches (AutoContrast): each channel's lowest value to 0 and its highest to 255."""
    table = np.empty((3, 256), np.uint8)
    for channel in range(3):
        used = np.flatnonzero(histogram[channel])
        low, high = used[0], used[-1]
        scale = 255.0 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        for value in range(256):
            table[channel, value] = min(max(int(value * scale + offset), 0), 255)
    return table


@kernel
def _equalized(histogram: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Equalizes: each channel's values as evenly frequent as a table can make them."""
    table = np.empty((3, 256), np.uint8)
    for channel in range(3):
        used = np.flatnonzero(histogram[channel])
        step = (histogram[channel].sum() - histogram[channel, used[-1]]) // 255
        below = step // 2
        for value in range(256):
            table[channel, value] = min(below // step, 255) if step else value
            below += histogram[channel, value]
    return table


@kernel
def _contrasted(mean: int, factor: np.float32) -> NDArray[np.uint8]:
    """Changes the contrast: blends with the mean grey value."""
    table = np.empty((3, 256), np.uint8)
    for value in range(256):
        table[:, value] = _blend(mean, value, factor)
    return table


@kernel
def _grey(red: int, green: int, blue: int) -> np.int32:
    """Returns the luma of a pixel, 0..255."""
    weighted = np.int32(19595) * np.int32(red) + np.int32(38470) * np.int32(green) + np.int32(7471) * np.int32(blue)
    return (weighted + np.int32(32768)) >> np.int32(16)


@kernel
def _blend(base: int, value: int, factor: np.float32) -> np.uint8:
    """Blends from ``base`` (factor 0) to ``value`` (1) and beyond, clipped, truncated; in float32, as Pillow does."""
    mixed = np.float32(base) + factor * np.float32(np.int32(value) - np.int32(base))
    return np.uint8(np.int32(min(max(mixed, np.float32(0)), np.float32(255))))


@kernel
def _mean_grey(view: NDArray[np.uint8]) -> int:
    """Returns the mean luma, rounded half up."""
    total = 0
    flat = view.reshape(-1, 3)
    for i in range(flat.shape[0]):
        total += _grey(flat[i, 0], flat[i, 1], flat[i, 2])
    return int(total / flat.shape[0] + 0.5)


@kernel
def _color(view: NDArray[np.uint8], factor: np.float32) -> None:
    """Changes the colour: blends each pixel with its own grey."""
    grey = np.empty(3 * view.shape[1], np.uint8)
    for y in range(view.shape[0]):
        pixels, row = view[y], view[y].reshape(-1)
        for x in range(view.shape[1]):
            luma = np.uint8(_grey(pixels[x, 0], pixels[x, 1], pixels[x, 2]))
            grey[3 * x], grey[3 * x + 1], grey[3 * x + 2] = luma, luma, luma
        for j in range(row.size):  # a loop of its own, flat: it vectorises
            row[j] = _blend(grey[j], row[j], factor)


@kernel
def _sharpness(source: NDArray[np.uint8], factor: np.float32, view: NDArray[np.uint8]) -> None:
    """Blends ``view``, which holds ``source``, with the 3 × 3 mean whose centre weighs 5 of 13; the border stays."""
    height, stride = view.shape[0], 3 * view.shape[1]
    plane, out = source.reshape(-1), view.reshape(-1)
    for y in range(1, height - 1):
        at = y * stride
        above, here, below = plane[at - stride : at], plane[at : at + stride], plane[at + stride : at + 2 * stride]
        inner = out[at + 3 : at + stride - 3]
        # Indices that cannot be negative: those of the form j - 3 would be tested for it, and the loop not vectorise.
        for j in range(max(stride - 6, 0)):
            total = np.int32(above[j]) + np.int32(above[j + 3]) + np.int32(above[j + 6])
            total += np.int32(below[j]) + np.int32(below[j + 3]) + np.int32(below[j + 6])
            total += np.int32(here[j]) + np.int32(5) * np.int32(here[j + 3]) + np.int32(here[j + 6])
            # (2 · total + 13) // 26: total / 13 rounded, as a product that vectorises; equal for all totals to 3315.
            smooth = ((np.int32(2) * total + np.int32(13)) * np.int32(10083)) >> np.int32(18)
            inner[j] = _blend(smooth, here[j + 3], factor)


@kernel
def _affine(source: NDArray[np.uint8], matrix: NDArray[np.int64], view: NDArray[np.uint8]) -> None:
    """Copies the nearest source pixel of every pixel, black outside; matrix [6] in 16.16."""
    height, width = view.shape[:2]
    a, b, c, d, e, f = matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]
    plane = source.reshape(-1)
    for y in range(height):
        x16, y16 = c + b * y, f + e * y
        row = view[y].reshape(-1)
        if a == ONE and d == 0:  # shear along x, translations: the row moves as a whole
            _shift_row(plane, x16 >> 16, y16 >> 16, height, row)
            continue
        begin_x, end_x = _inside(x16, a, width, width)
        begin_y, end_y = _inside(y16, d, height, width)
        begin = max(begin_x, begin_y)
        end = max(begin, min(end_x, end_y))
        row[: 3 * begin] = 0
        for x in range(begin, end):
            at = 3 * (((y16 + d * x) >> 16) * width + ((x16 + a * x) >> 16))
            row[3 * x], row[3 * x + 1], row[3 * x + 2] = plane[at], plane[at + 1], plane[at + 2]
        row[3 * end :] = 0


@kernel
def _inside(start: int, step: int, limit: int, count: int) -> tuple[int, int]:
    """Returns the x [begin, end) below count with 0 ≤ start + step · x < limit; limit in pixels, others in 16.16."""
    limit *= ONE
    if step == 0:
        return 0, count if 0 <= start < limit else 0
    if step < 0:  # count down from the limit: limit - 1 - start grows with x
        start, step = limit - 1 - start, -step
    begin, end = -(start // step), -((start - limit) // step)  # ceilings
    return min(max(begin, 0), count), min(max(end, 0), count)


@kernel
def _shift_row(plane: NDArray[np.uint8], from_x: int, from_y: int, height: int, row: NDArray[np.uint8]) -> None:
    """Fills row [3 · w] from pixel (from_y, from_x) of plane [height · 3 · w] on, black outside."""
    stride, shift = row.size, 3 * from_x
    begin, end = max(-shift, 0), min(stride - shift, stride)
    if not 0 <= from_y < height or begin >= end:
        row[:] = 0
        return
    row[:begin] = 0
    at = from_y * stride + shift
    _copy(plane[at + begin : at + end], row[begin:end])
    row[end:] = 0
