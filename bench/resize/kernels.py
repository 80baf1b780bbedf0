"""Ways to cut a crop out of a decoded image and resize it, each on one thread, as the libraries' own users call them.

A way is made for the crops and a size, and is then called with a crop's number; what a user would allocate once is
made beforehand. It returns the picture as its library has it; ``pixels`` turns that into uint8 [size, size, 3].
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines.augment.resize import resize_into, scratch_bytes

PILLOW, OURS = "Pillow, crop then resize", "ours"
"""The way that defines the right bytes, and the pipelines' own."""
SIMD = "Pillow-SIMD, crop then resize"
_NO_SIMD = (
    "takes the installed Pillow's name, so it runs in a process of its own: pip install --no-deps --target FOLDER "
    "pillow-simd, then --pillow-simd FOLDER"
)


class Crop(NamedTuple):
    """A box in a decoded image."""

    image: NDArray[np.uint8]  # [H, W, 3]
    picture: Image.Image  # the same pixels
    top: int
    left: int
    height: int
    width: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The crop as Pillow has boxes: left, upper, right, lower."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The crop's pixels, a view of the image [height, width, 3]."""
        return self.image[self.top : self.top + self.height, self.left : self.left + self.width]


Way = Callable[[int], Any]
"""Cuts the crop with that number."""


def ways(crops: Sequence[Crop], size: int) -> dict[str, Way]:
    """Returns name → way, the definition first."""
    found = {
        PILLOW: _pillow(crops, size),
        OURS: _ours(crops, size),
        "Pillow, resize(box=…)": _pillow_box(crops, size),
        "torch, interpolate(antialias=True) on uint8": _torch(crops, size),
    }
    if find_spec("cv2") is not None:
        import cv2  # comes with ffcv

        found["cv2, INTER_AREA"] = _cv2(crops, size, cv2.INTER_AREA)
        found["cv2, INTER_LINEAR (no antialias)"] = _cv2(crops, size, cv2.INTER_LINEAR)
    return found


def not_measured(simd: bool) -> dict[str, str]:
    """Returns the name of each way that was not measured, and why; ``simd``: whether Pillow-SIMD was."""
    absent = {} if find_spec("cv2") else {"cv2": "not installed (ffcv brings it: pip install -e '.[ffcv]')"}
    return absent if simd else {**absent, SIMD: _NO_SIMD}


def pixels(picture: Any) -> NDArray[np.uint8]:
    """Returns what a way returned as uint8 [size, size, 3]."""
    if isinstance(picture, torch.Tensor):
        return picture[0].permute(1, 2, 0).numpy()
    return np.asarray(picture)


@contextmanager
def one_thread() -> Iterator[None]:
    """Makes torch and cv2 compute on the calling thread alone, until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2: Any = None
    if find_spec("cv2") is not None:
        import cv2

        cv2_before = cv2.getNumThreads()
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if cv2 is not None:
            cv2.setNumThreads(cv2_before)


def _pillow(crops: Sequence[Crop], size: int) -> Way:
    def cut(number: int) -> Image.Image:
        crop = crops[number]
        return crop.picture.crop(crop.box).resize((size, size), Image.Resampling.BILINEAR)

    return cut


def _pillow_box(crops: Sequence[Crop], size: int) -> Way:
    def cut(number: int) -> Image.Image:
        crop = crops[number]
        return crop.picture.resize((size, size), Image.Resampling.BILINEAR, box=crop.box)

    return cut


def _ours(crops: Sequence[Crop], size: int) -> Way:
    boxes = np.array([(crop.top, crop.left, crop.height, crop.width) for crop in crops], np.int32)
    whole, corner = np.full(2, size, np.int32), np.zeros(2, np.int32)
    scratch, out = np.empty(scratch_bytes(boxes, size), np.uint8), np.empty((size, size, 3), np.uint8)

    def cut(number: int) -> NDArray[np.uint8]:
        resize_into(crops[number].image, boxes[number], whole, corner, False, scratch, out)
        return out

    return cut


def _torch(crops: Sequence[Crop], size: int) -> Way:
    boxes = [torch.from_numpy(crop.pixels).permute(2, 0, 1)[None] for crop in crops]  # views in channels_last

    def cut(number: int) -> torch.Tensor:
        return torch.nn.functional.interpolate(boxes[number], (size, size), mode="bilinear", antialias=True)

    return cut


def _cv2(crops: Sequence[Crop], size: int, interpolation: int) -> Way:
    import cv2

    out = np.empty((size, size, 3), np.uint8)

    def cut(number: int) -> NDArray[np.uint8]:
        cv2.resize(crops[number].pixels, (size, size), dst=out, interpolation=interpolation)
        return out

    return cut
