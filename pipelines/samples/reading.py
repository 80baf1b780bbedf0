"""How a file becomes RGB pixels where there is a choice: what shows through transparency, and EXIF's rotation.

The defaults are torchvision's: alpha is dropped, whatever colours lie under it, and the rotation is ignored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from PIL import Image

Alpha = Literal["drop", "white", "black", "mean"]
Exif = Literal["ignore", "turn"]
ORIENTATION = 0x0112
"""EXIF's tag for the rotation that a viewer should apply."""
ON_THEIR_SIDE = (5, 6, 7, 8)
"""The orientations that swap width and height."""

BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "mean": (124, 116, 104)}
"""The mean is that of ImageNet's pixels, which normalisation makes zero."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""As ImageOps.exif_transpose, which also writes EXIF again, and fails where that is damaged."""


@dataclass(frozen=True)
class Reading:
    """Says what becomes of transparency, and whether an image is turned as its EXIF asks for."""

    alpha: Alpha = "drop"
    exif: Exif = "ignore"

    @property
    def turns(self) -> bool:
        """Returns whether images are turned."""
        return self.exif == "turn"

    @property
    def flags(self) -> str:
        """Returns the converter's flags for this reading, a space before each; empty for the defaults."""
        return "".join(f" --{name} {value}" for name, value in self._other())

    def _other(self) -> Iterator[tuple[str, str]]:
        if self.alpha != "drop":
            yield "alpha", self.alpha
        if self.exif != "ignore":
            yield "exif", self.exif

    def rgb(self, image: Image.Image) -> Image.Image:
        """Returns an opened image as RGB. Raises whatever Pillow raises for damage."""
        image.load()  # a TIFF is turned here, always
        if self.turns and (turn := _TURNS.get(orientation_of(image))) is not None:
            image = image.transpose(turn)
        if self.alpha != "drop" and image.has_transparency_data:
            opaque = Image.new("RGBA", image.size, (*BACKGROUNDS[self.alpha], 255))
            opaque.alpha_composite(image.convert("RGBA"))
            image = opaque
        return image.convert("RGB")


AS_TORCHVISION = Reading()
"""What torchvision's loader does."""


def orientation_of(image: Image.Image) -> int:
    """Returns the orientation (1 to 8) that Pillow reads in EXIF or XMP; 1, which is upright, where that is damaged.

    1 for a TIFF, which Pillow turns when it decodes it.
    """
    if image.format == "TIFF":
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises whatever the damage makes it raise
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1
