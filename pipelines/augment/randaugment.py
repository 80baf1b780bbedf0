"""RandAugment's 16 operations on the CPU, byte for byte Pillow's: new values, or an affine gather.

Shapes: view and spare uint8 [h, w, 3] in C order, changed in place; h and w below 32768.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import ops
from pipelines.augment.kernel import kernel
from pipelines.augment.operation_tables import ONE, OperationTables
from pipelines.augment.ops import Op
from pipelines.augment.values import (
    blend_with,
    color,
    equalized,
    extremes,
    fold,
    histogram,
    look_up,
    mean_grey,
    sharpness,
    stretched,
)

_LEVELS = ops.LEVELS
# Compiled code takes numbers from plain module variables, not from an enum.
_AUTO_CONTRAST, _COLOR, _CONTRAST, _EQUALIZE = int(Op.AutoContrast), int(Op.Color), int(Op.Contrast), int(Op.Equalize)
_IDENTITY, _ROTATE, _SHARPNESS = int(Op.Identity), int(Op.Rotate), int(Op.Sharpness)
_BRIGHTNESS, _SHEAR_X, _SHEAR_Y = int(Op.Brightness), int(Op.ShearX), int(Op.ShearY)
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
            color(view, tables.value[which, at])
        elif which == _SHARPNESS:
            _copy(view.reshape(-1), spare.reshape(-1))
            sharpness(spare, tables.value[which, at], view)
        elif which in (_ROTATE, _SHEAR_X, _SHEAR_Y, _TRANSLATE_X, _TRANSLATE_Y):
            _copy(view.reshape(-1), spare.reshape(-1))
            _affine(spare, tables.affine[which, at], view)
        elif which == _AUTO_CONTRAST:
            look_up(stretched(*extremes(view)), view)
        elif which == _EQUALIZE:
            look_up(equalized(histogram(view)), view)
        elif which == _CONTRAST:
            blend_with(np.int32(mean_grey(view)), view.reshape(-1), tables.value[which, at])
        elif which == _BRIGHTNESS:
            blend_with(np.int32(0), view.reshape(-1), tables.value[which, at])
        else:
            added, mask, turn = tables.fold[which, at]
            fold(view.reshape(-1), added, mask, turn)


@kernel
def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Does target[:] = source, both flat: numba's slice assignment takes 15 times as long as this loop (a memcpy)."""
    for j in range(source.size):
        target[j] = source[j]


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
