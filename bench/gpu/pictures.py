"""JPEGs of our own making, for machines without a data set: sizes, weights and kinds as ImageNet has them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.samples.reading import ORIENTATION

SIDES = ((500, 375), (375, 500), (500, 333), (400, 300))
"""Widths and heights, in turn."""
SIDE = 250
"""Height and width of the pictures of every kind: no multiple of a JPEG's blocks."""
KINDS = ("4:2:0", "4:4:4", "grey", "CMYK", "progressive", "EXIF", "PNG")


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Returns a picture with slopes, blots and noise, whose JPEG weighs about what a photograph's does."""
    rng = np.random.default_rng(seed)
    blots = [
        Image.fromarray(rng.integers(0, 256, (rows, columns, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for rows, columns in ((4, 5), (13, 17), (50, 60))
    ]
    mixed = sum(share * np.asarray(each, np.float32) for share, each in zip((0.5, 0.3, 0.2), blots, strict=True))
    noisy = mixed + rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def corpus(folder: Path, images: int) -> Path:
    """Returns an ImageFolder of so many JPEGs in two classes below ``folder``, made at the first call."""
    root = folder / f"corpus-{images}" / "train"

    def write(number: int) -> None:
        path = root / f"class_{number % 2}" / f"{number:05}.jpg"
        subsampling = "4:4:4" if number % 5 == 0 else "4:2:0"
        photograph(*SIDES[number % len(SIDES)], number).save(path, "JPEG", quality=90, subsampling=subsampling)

    if not root.exists():
        for number in range(2):
            (root / f"class_{number}").mkdir(parents=True)
        with ThreadPoolExecutor() as pool:
            list(pool.map(write, range(images)))
    return root


def of_every_kind(folder: Path, each: int, truncated: int = 0) -> Path:
    """Returns an ImageFolder with a class for each of KINDS, square pictures of SIDE pixels.

    The first ``truncated`` files of the first kind end in the middle.
    """
    root = folder / f"kinds-{each}-{truncated}" / "train"

    def write(kind: str, number: int) -> None:
        path = root / kind.replace(":", "") / f"{number:04}.jpg"
        _save(photograph(SIDE, SIDE, 1000 + number), kind, path)
        if kind == KINDS[0] and number < truncated:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    for kind in KINDS:
        (root / kind.replace(":", "")).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda at: write(*at), [(kind, number) for kind in KINDS for number in range(each)]))
    return root


def _save(image: Image.Image, kind: str, path: Path) -> None:
    """Writes the picture as a file of one kind; a PNG, too, is called .jpg, as one of ImageNet's is."""
    how: dict[str, Any] = {"format": "JPEG", "quality": 90, "subsampling": "4:2:0"}
    if kind in ("grey", "CMYK"):
        image, how = image.convert("L" if kind == "grey" else kind), {"format": "JPEG", "quality": 90}
    elif kind == "4:4:4":
        how["subsampling"] = kind
    elif kind == "progressive":
        how["progressive"] = True
    elif kind == "EXIF":
        turned = Image.Exif()
        turned[ORIENTATION] = 6
        how["exif"] = turned
    elif kind == "PNG":
        how = {"format": "PNG"}
    image.save(path, **how)
