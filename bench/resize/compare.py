"""Every way to resize on the same crops: its rate, and how far its pictures are from Pillow's."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.measure import Contestant, Measurement, measure
from bench.resize import kernels
from bench.resize.kernels import PILLOW, SIMD, Crop, Way, ways
from bench.yardsticks.pillow_simd import PillowSimd
from pipelines.augment.policy import plan
from pipelines.order import Draws, Stream
from pipelines.samples.listing import Listing
from pipelines.views import TrainingViews


class FromPillow(NamedTuple):
    """How far a way's pictures are from Pillow's, in grey levels, over all crops."""

    largest: int
    mean: float

    @property
    def exact(self) -> bool:
        """Tells whether the bytes are Pillow's."""
        return self.largest == 0


def training_crops(listing: Listing, images: list[Image.Image], size: int, each: int) -> list[Crop]:
    """Returns ``each`` random resized crops of every image: the weak views of one epoch."""
    draws = Draws(listing.indices, np.zeros(len(images), np.int64), seed=0, stream=Stream.UNLABELED)
    planned = plan(TrainingViews(size=size, weak=each), draws, listing.heights, listing.widths)
    pixels = [np.array(image) for image in images]
    return [
        Crop(pixels[at], images[at], *planned.crop[view, at].tolist())
        for at in range(len(images))
        for view in range(each)
    ]


def compare(
    crops: list[Crop], size: int, rounds: int, simd_folder: Path | None
) -> tuple[Measurement, dict[str, FromPillow]]:
    """Times every way on ``crops``, and compares its pictures with Pillow's."""
    found = ways(crops, size)
    contestants = [Contestant(name, partial(_every, way, len(crops))) for name, way in found.items()]
    pictures: dict[str, Callable[[], NDArray[np.uint8]]] = {
        name: partial(pictures_of, way, len(crops)) for name, way in found.items()
    }
    with ExitStack() as opened:
        if simd_folder:
            simd = PillowSimd(simd_folder, crops, size)
            opened.callback(simd.close)
            contestants.append(Contestant(SIMD, simd.every))
            pictures[SIMD] = simd.pixels
        wanted = pictures[PILLOW]()
        differences = {name: _difference(wanted, cut()) for name, cut in pictures.items()}
        measured = measure(contestants, unit="crops/s", rounds=rounds)
    return measured, differences


def pictures_of(way: Way, count: int) -> NDArray[np.uint8]:
    """Returns every crop as a way cuts it, uint8 [n, size, size, 3]."""
    return np.stack([kernels.pixels(way(number)).copy() for number in range(count)])  # some reuse their memory


def _every(way: Way, count: int) -> int:
    for number in range(count):
        way(number)
    return count


def _difference(wanted: NDArray[np.uint8], found: NDArray[np.uint8]) -> FromPillow:
    apart = np.abs(found.astype(np.int16) - wanted)
    return FromPillow(int(apart.max()), float(apart.mean()))
