"""One ImageFolder, listed once: the stable sample index, the labels and the image sizes.

A sample's *index* is its position in torchvision's sorted ImageFolder listing of the root; everything else in the
project (published index files, orders, plans, label tables, .beton fields) speaks of samples by it.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm import tqdm

from pipelines.errors import DataError

_NAMED_FILES = 5
"""How many offending files a message names before it only counts."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of ``root/<class>/…`` in torchvision's order."""

    root: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]  # relative to root, "/"-separated
    labels: NDArray[np.int64]  # [N] the folder each image lies in
    heights: NDArray[np.int32]  # [N] pixels of the stored image
    widths: NDArray[np.int32]  # [N]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Every sample's index."""
        return np.arange(len(self), dtype=np.int64)

    def path(self, index: int) -> Path:
        return self.root / self.paths[index]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted relative paths: the same data set has the same one on any machine."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(os.fsencode(path) + b"\0")
        return digest.hexdigest()


def list_images(root: Path) -> Listing:
    """The listing of an ImageFolder, with the sizes from the images' headers (cached in the user's cache folder).

    Raises DataError where the folder or a class folder is missing or empty, or where files are not images.
    """
    if not root.is_dir():
        raise DataError(
            f"There is no data folder {root}. It should hold one folder per class with images; "
            "name another with --data, or make the demo's with: python tools/make_demo_data.py"
        )
    classes = tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir()))
    if not classes:
        raise DataError(f"{root} has no class folders. Expected {root}/<class>/<image>.jpg")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = list(_images_below(root / name))
        if not found:
            raise DataError(
                f"The class folder {root / name} holds no image ({', '.join(IMG_EXTENSIONS)}). "
                "Remove it, or put its images back."
            )
        paths.extend(path.relative_to(root).as_posix() for path in found)
        labels.extend([label] * len(found))
    heights, widths = _sizes(root, paths)
    return Listing(root, classes, tuple(paths), np.asarray(labels, np.int64), heights, widths)


def _images_below(folder: Path) -> Iterable[Path]:
    """Images of one class in the order of torchvision.datasets.ImageFolder."""
    for parent, _, names in sorted(os.walk(folder, followlinks=True)):
        for name in sorted(names):
            if name.lower().endswith(IMG_EXTENSIONS):
                yield Path(parent, name)


def _sizes(root: Path, paths: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Heights and widths of all images, read from their headers unless no file has changed since they last were."""
    with ThreadPoolExecutor(max_workers=16) as pool:  # waiting for the file system, not computing
        stats = list(pool.map(lambda path: os.stat(root / path), paths))
    digest = hashlib.sha256(os.fsencode(root.resolve()))
    for path, stat in zip(paths, stats, strict=True):
        digest.update(os.fsencode(path) + f"\0{stat.st_size} {stat.st_mtime_ns}\0".encode())
    cache = _cache_folder() / f"{digest.hexdigest()}.npy"
    if cache.exists():
        heights, widths = np.load(cache)
        return heights, widths

    with ThreadPoolExecutor(max_workers=16) as pool:
        read = pool.map(lambda path: _header_size(root / path), paths)
        sizes = list(tqdm(read, f"reading headers in {root.name}", len(paths), unit=" images", leave=False, delay=1))
    bad = [f"{root / path}: {size}" for path, size in zip(paths, sizes, strict=True) if isinstance(size, str)]
    if bad:
        more = f"\n  … and {len(bad) - _NAMED_FILES} more" if len(bad) > _NAMED_FILES else ""
        named = "\n  ".join(bad[:_NAMED_FILES])
        raise DataError(f"Not readable as images (remove or replace them):\n  {named}{more}")
    widths, heights = np.asarray(sizes, np.int32).reshape(-1, 2).T
    _save_atomically(cache, np.stack([heights, widths]))
    return heights, widths


def _header_size(path: Path) -> tuple[int, int] | str:
    """(width, height), or what is wrong with the file."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, Image.DecompressionBombError) as error:
        return "not an image" if isinstance(error, UnidentifiedImageError) else str(error)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "debiaspl" / "sizes"


def _save_atomically(path: Path, array: NDArray[np.int32]) -> None:
    """Write a cache file; a folder that cannot be written costs the cache, not the run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npy", delete=False) as file:
            np.save(file, array)
        os.replace(file.name, path)
    except OSError:
        return
