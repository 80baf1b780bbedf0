"""The RandAugment table (ImageNet pool): which operations there are and what a magnitude means.

Source: FixMatch's RandAugment as the published DebiasPL code uses it. Two operations are drawn uniformly with
replacement, both always applied; the level is a uniform integer in 1..9.
"""

from enum import IntEnum
from typing import NamedTuple

LEVELS = 9
"""Levels are 1..9; a level of 10, the scale's end, is never drawn."""
DRAWS_PER_VIEW = 2
"""Operations applied to each strong view (RandAugment's n)."""


class Op(IntEnum):
    """Operation numbers as plans store them."""

    AutoContrast = 0
    Brightness = 1
    Color = 2
    Contrast = 3
    Equalize = 4
    Identity = 5
    Invert = 6
    Posterize = 7
    Rotate = 8
    Sharpness = 9
    ShearX = 10
    ShearY = 11
    Solarize = 12
    SolarizeAdd = 13
    TranslateX = 14
    TranslateY = 15


class Scale(NamedTuple):
    """How a level becomes a value: ``level · maximum / 10 + bias``, truncated before the bias if whole."""

    maximum: float
    bias: float
    whole: bool
    signed: bool


SCALES: dict[Op, Scale] = {
    Op.Brightness: Scale(1.8, 0.1, whole=False, signed=False),
    Op.Color: Scale(1.8, 0.1, whole=False, signed=False),
    Op.Contrast: Scale(1.8, 0.1, whole=False, signed=False),
    Op.Posterize: Scale(4, 4, whole=True, signed=False),
    Op.Rotate: Scale(30, 0, whole=True, signed=True),
    Op.Sharpness: Scale(1.8, 0.1, whole=False, signed=False),
    Op.ShearX: Scale(0.3, 0, whole=False, signed=True),
    Op.ShearY: Scale(0.3, 0, whole=False, signed=True),
    Op.Solarize: Scale(256, 0, whole=True, signed=False),
    Op.SolarizeAdd: Scale(110, 0, whole=True, signed=True),
    Op.TranslateX: Scale(0.45, 0, whole=False, signed=True),
    Op.TranslateY: Scale(0.45, 0, whole=False, signed=True),
}
"""Operations that are not listed take no value."""


def value(op: Op, level: int) -> float:
    """Returns the operation's value at a signed ``level`` (±1..±9); the sign counts only where the operation has one.

    Returns 0.0 for operations without a value; degrees for Rotate, bits for Posterize, a share of the side for
    Translate, grey levels for Solarize(Add), Pillow's enhancement factor or shear otherwise.
    """
    scale = SCALES.get(op)
    if scale is None:
        return 0.0
    magnitude = abs(level) * scale.maximum / 10
    magnitude = (int(magnitude) if scale.whole else magnitude) + scale.bias
    return float(-magnitude if scale.signed and level < 0 else magnitude)
