"""What RandAugment's operations do at each level, as tables: values, 256-entry look-ups, affine maps in fixed point."""

from functools import lru_cache
from math import cos, floor, radians, sin
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.augment import ops, pillow
from pipelines.augment.ops import Op

ONE = 1 << 16
"""1 in the 16.16 fixed point of affine maps."""
_POINTWISE = (Op.Brightness, Op.Invert, Op.Posterize, Op.Solarize, Op.SolarizeAdd)
"""Operations that map each value by itself, whatever the picture."""


class OperationTables(NamedTuple):
    """What operation ``op`` at ``level`` needs, at [op, level + 9]; zeros where it needs nothing of the kind."""

    value: NDArray[np.float32]  # [16, 19] ops.value
    point: NDArray[np.uint8]  # [16, 19, 256] new value of each value
    fold: NDArray[np.int16]  # [16, 19, 3] what to add, bits to keep, from where on values are mirrored
    affine: NDArray[np.int64]  # [16, 19, 6] 16.16: source x = a·x + b·y + c, source y = d·x + e·y + f


@lru_cache(maxsize=8)
def operation_tables(height: int, width: int) -> OperationTables:
    """Returns the tables for views of ``height`` × ``width`` pixels."""
    shape = (len(Op), 2 * ops.LEVELS + 1)
    made = OperationTables(
        value=np.zeros(shape, np.float32),
        point=np.zeros((*shape, 256), np.uint8),
        fold=np.zeros((*shape, 3), np.int16),
        affine=np.zeros((*shape, 6), np.int64),
    )
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3))
    for op in Op:
        for level in (*range(-ops.LEVELS, 0), *range(1, ops.LEVELS + 1)):
            at = op, level + ops.LEVELS
            made.value[at] = ops.value(op, level)
            if op in _POINTWISE:  # Pillow's answer for the 256 values is its answer for any picture
                made.point[at] = np.asarray(pillow.apply(op, level, ramp))[0, :, 0]
            made.fold[at] = _folded(op, int(ops.value(op, level)))
            made.affine[at] = _fixed_point(_matrix(op, ops.value(op, level), height, width))
    return made


def _folded(op: Op, u: int) -> tuple[int, int, int]:
    """Returns what ``op`` adds, the bits that it keeps, and the value from which on it mirrors (256: none)."""
    match op:
        case Op.Invert:
            return 0, 255, 0
        case Op.Posterize:
            return 0, 256 - (1 << (8 - u)), 256
        case Op.Solarize:
            return 0, 255, 256 - u
        case Op.SolarizeAdd:
            return u, 255, 128
        case _:
            return 0, 255, 256


def _matrix(op: Op, u: float, height: int, width: int) -> tuple[float, ...]:
    """Returns output pixel → source pixel as (a, b, c, d, e, f); zeros where ``op`` moves nothing."""
    match op:
        case Op.ShearX:
            return 1.0, u, 0.0, 0.0, 1.0, 0.0
        case Op.ShearY:
            return 1.0, 0.0, 0.0, u, 1.0, 0.0
        case Op.TranslateX:
            return 1.0, 0.0, float(int(u * width)), 0.0, 1.0, 0.0
        case Op.TranslateY:
            return 1.0, 0.0, 0.0, 0.0, 1.0, float(int(u * height))
        case Op.Rotate:
            # About the centre; the angle is first brought to [0, 360) and the entries rounded, both visible in bytes.
            angle = -radians(u % 360.0)
            c, s = round(cos(angle), 15), round(sin(angle), 15)
            x, y = width / 2, height / 2
            return c, s, c * -x + s * -y + x, -s, c, -s * -x + c * -y + y
        case _:
            return (0.0,) * 6


def _fixed_point(matrix: tuple[float, ...]) -> list[int]:
    """Returns 16.16 entries; the offsets belong to the centre of output pixel (0, 0)."""
    a, b, c, d, e, f = matrix
    return [floor(x * ONE + 0.5) for x in (a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5)]
