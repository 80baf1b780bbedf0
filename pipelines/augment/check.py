"""Whether this Pillow computes what our executors were tested against: a made picture's views, against stored digests.

Pillow is the reference for every pixel, and its bytes may change between versions. The digests are of Pillow 13.0.0;
an older or newer one that agrees is as good. Takes a few milliseconds, once per process.
"""

import zlib
from functools import cache

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from pipelines import console
from pipelines.augment import pillow
from pipelines.augment.ops import Op

TESTED = "13.0.0"
"""The version of Pillow that the digests are of."""
_SIZES = ((9, 11), (37, 20), (16, 16), (60, 7))
"""Widths and heights that the made picture is resized to: smaller, larger, as large, and with either pass first."""
DIGESTS = {
    "Resize": 0x35BD43C8,
    "AutoContrast": 0xA81063E9,
    "Brightness": 0x2E86853E,
    "Color": 0x1408A2C2,
    "Contrast": 0xF4692886,
    "Equalize": 0x8364A4B5,
    "Identity": 0x37012B62,
    "Invert": 0x01314B55,
    "Posterize": 0x6C38513A,
    "Rotate": 0xE1E04D0E,
    "Sharpness": 0x7642B78F,
    "ShearX": 0xA1BC51EB,
    "ShearY": 0x7CEFDEE8,
    "Solarize": 0x74E9ED33,
    "SolarizeAdd": 0xE15B1E31,
    "TranslateX": 0xACF6213C,
    "TranslateY": 0x475FA026,
}
"""Operation → CRC-32 of its bytes."""


def digests() -> dict[str, int]:
    """Returns what this Pillow makes of the picture: operation → CRC-32 over its bytes."""
    image = Image.fromarray(_picture())
    crop = image.crop((3, 2, 27, 23))
    found = {"Resize": [np.asarray(crop.resize(size, Image.Resampling.BILINEAR)) for size in _SIZES]}
    for op in Op:
        found[op.name] = [np.asarray(pillow.apply(op, -7 if op % 2 else 4, image))]
    return {name: zlib.crc32(b"".join(part.tobytes() for part in parts)) for name, parts in found.items()}


def _picture() -> NDArray[np.uint8]:
    """Returns a picture [24, 32, 3] of slopes and noise, made of whole numbers alone."""
    y, x, channel = np.mgrid[0:24, 0:32, 0:3]
    return (40 + 3 * x + 2 * y + 17 * channel + (x * x * 7 + y * y * 13 + x * y * (5 + channel)) % 61).astype(np.uint8)


@cache
def warn_of_other_bytes() -> bool:
    """Prints a warning, at the first call of a process, where this Pillow's bytes are others; returns whether they are.

    The pipelines then differ from each other, and from what was recorded with another version.
    """
    found = digests()
    differing = [name for name, digest in DIGESTS.items() if found.get(name) != digest]
    if differing:
        console.say(
            f"warning: Pillow {PIL.__version__} computes other bytes than Pillow {TESTED} in {', '.join(differing)}: "
            f"pipelines differ from each other there. The tested version: pip install pillow=={TESTED}",
            error=True,
        )
    return bool(differing)
