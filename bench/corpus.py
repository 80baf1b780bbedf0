"""Makes a corpus like ImageNet: JPEGs of its sizes and weights, cut from the photographs in scikit-learn.

The two photographs (china.jpg, flower.jpg) have 640 × 427 pixels. Each image is a random piece of one of them, at the
photograph's own resolution: pieces are mirrored or, for portrait sizes, turned by 90°, but never scaled, so edges,
noise and entropy-coding work per pixel stay those of a photograph. Every choice is a hash of (seed, image number): the
same seed and Pillow give the same bytes.
"""

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image
from sklearn.datasets import load_sample_image
from tqdm import tqdm

from pipelines import console, keyed_random
from pipelines.errors import DataError
from pipelines.names import readable

_VERSION = 1
"""Counted up with any change below, so that an old cache is never taken for the new corpus."""
_PREFIX, _PARTIAL, CONVERSION = "imagenet-like-", ".partial-", ".convert-"
"""How the names begin of a corpus, of one that is being made, and of the folder of a conversion that is measured."""
_CLASSES = 8
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
IMAGE_SIZES = {
    (500, 375): 0.50,
    (375, 500): 0.20,
    (500, 333): 0.10,
    (333, 500): 0.04,
    (500, 400): 0.06,
    (640, 427): 0.05,
    (400, 300): 0.05,
}
"""(width, height) → share of the images, after ImageNet's own: the long side of most is 500."""
ENCODINGS = ((97, "4:2:0"), (96, "4:4:4"))
"""JPEG quality and chroma subsampling, half of the images each: together ImageNet's 110 kB an image."""


class _Choice(NamedTuple):
    """What one image is cut from, and how."""

    photograph: int
    width: int
    height: int
    left: float  # share of the room there is
    top: float
    mirror: bool
    encoding: int


def build(folder: Path, images: int, seed: int = 0) -> Path:
    """Returns the corpus' root (``root/train/<class>/<image>.JPEG``) below ``folder``, made unless it is there already.

    Raises DataError where ``folder`` cannot be written, or holds files that are not the bench's: it is no place for
    pictures of the user's own, because conversions are written there, too.
    """
    root = folder / f"{_PREFIX}v{_VERSION}-pillow{PIL.__version__}-{images}-seed{seed}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_other_files(folder)
        if not root.is_dir():
            partial = Path(tempfile.mkdtemp(dir=folder, prefix=_PARTIAL))
            try:
                _write(partial, images, seed)
                _publish(partial, root)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"Cannot write the corpus to {readable(folder)}: {error}. Name another folder with --corpus."
        ) from error
    console.say(f"The bench's images, and what is converted from them, lie in {readable(root)}", error=True)
    return root


def _refuse_other_files(folder: Path) -> None:
    found = sorted(name for name in os.listdir(folder) if not name.startswith((_PREFIX, _PARTIAL, CONVERSION)))
    if found:
        raise DataError(
            f"{readable(folder)} holds files that are not the bench's ({found[0]!r}); nothing was written there. "
            "The bench makes its own images: name a new or empty folder for them with --corpus."
        )


def mean_bytes(root: Path) -> float:
    """Returns the average file size of a corpus."""
    return float(np.mean([path.stat().st_size for path in root.glob("train/*/*")]))


def _publish(partial: Path, root: Path) -> None:
    try:
        partial.rename(root)
    except OSError:
        if not root.is_dir():  # otherwise another process was faster, with the same bytes
            raise


def _write(root: Path, images: int, seed: int) -> None:
    landscape = [Image.fromarray(load_sample_image(name)) for name in PHOTOGRAPHS]
    portrait = [photograph.transpose(Image.Transpose.ROTATE_90) for photograph in landscape]
    for number in range(min(_CLASSES, images)):
        (root / "train" / f"class_{number}").mkdir(parents=True)

    def write(number: int) -> None:
        choice = _choose(seed, number)
        photograph = (landscape if choice.width > choice.height else portrait)[choice.photograph]
        quality, subsampling = ENCODINGS[choice.encoding]
        path = root / "train" / f"class_{number % _CLASSES}" / f"{number:06}.JPEG"
        _cut(photograph, choice).save(path, "JPEG", quality=quality, subsampling=subsampling)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # Pillow encodes without the GIL
        written = pool.map(write, range(images))
        for _ in tqdm(written, "making the corpus", images, unit=" images", leave=False, disable=None):
            pass


def _choose(seed: int, number: int) -> _Choice:
    photograph, size, left, top, mirror, encoding = keyed_random.uniform(seed, number, np.arange(6)).tolist()
    shares = np.cumsum(list(IMAGE_SIZES.values()))
    width, height = list(IMAGE_SIZES)[int(np.searchsorted(shares / shares[-1], size, side="right"))]
    return _Choice(
        photograph=int(photograph * len(PHOTOGRAPHS)),
        width=width,
        height=height,
        left=left,
        top=top,
        mirror=mirror < 0.5,
        encoding=int(encoding * len(ENCODINGS)),
    )


def _cut(photograph: Image.Image, choice: _Choice) -> Image.Image:
    room_x, room_y = photograph.width - choice.width, photograph.height - choice.height
    assert min(room_x, room_y) >= 0, "pieces are never scaled up"
    left, top = int(choice.left * (room_x + 1)), int(choice.top * (room_y + 1))
    piece = photograph.crop((left, top, left + choice.width, top + choice.height))
    return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if choice.mirror else piece
