"""How images are to be stored in a .beton."""

from dataclasses import dataclass
from typing import Literal

from pipelines import keyed_random
from pipelines.samples.image_header import PIXELS_PER_BYTE
from pipelines.samples.reading import Alpha, Exif, Reading


@dataclass(frozen=True)
class Encoding:
    """Says how images are stored. All of it shapes the bytes, so all of it must agree when a conversion is resumed."""

    max_resolution: int | None = None  # longest side in pixels; None: never resized
    quality: int = 90
    mode: Literal["jpeg", "raw", "proportion", "planes"] = "jpeg"
    raw_share: float = 0.5  # of the images, where mode is "proportion"
    check: Literal["header", "decode"] = "header"  # of planes, decode: their pixels are compared with Pillow's
    pixels_per_byte: float = PIXELS_PER_BYTE  # a JPEG that claims more for each of its bytes is skipped
    alpha: Alpha = "drop"  # what shows through transparency
    exif: Exif = "ignore"  # turn: an image is stored as its EXIF asks to show it

    @property
    def reading(self) -> Reading:
        """Returns how the files become pixels."""
        return Reading(self.alpha, self.exif)

    def raw(self, index: int) -> bool:
        """Returns whether the sample's pixels are stored: by a key, the same in any shard, subset or resumed run."""
        if self.mode == "proportion":
            return bool(keyed_random.uniform(keyed_random.CONVERSION, index) < self.raw_share)
        return self.mode == "raw"
