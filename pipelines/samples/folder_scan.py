"""The image files below a folder, with their sizes and times, from one pass over its folders.

Of each class, what was found is packed as soon as it is complete: a listing may have millions of files.
"""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipelines import console
from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.samples.path_table import Paths

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_MORE_SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".jfif", ".jpe", ".avif", ".jp2", ".tga", ".dib", ".ico")
"""What else Pillow reads, for folders without classes: what ImageFolder would leave out does not matter there."""
"""torchvision's IMG_EXTENSIONS (a test compares them): importing them from there takes as long as importing torch."""
THREADS = 16
"""They wait for the file system more than they compute."""

_Identity = tuple[int, int]  # device and inode: what a folder is, whatever path leads to it
_Row = tuple[str, int, int]  # name, bytes, time


class Scan(NamedTuple):
    """Holds image files in listing order."""

    classes: tuple[str, ...]
    names: Paths  # relative to the root, "/"-separated
    labels: NDArray[np.int64]  # [n] which class; all 0 where there are no classes
    bytes: NDArray[np.int64]  # [n] length; -1 where there is no regular file (a dangling link, say)
    times: NDArray[np.int64]  # [n] last modification, ns


class _Folder(NamedTuple):
    path: str  # relative to the root
    rows: list[_Row]  # its own images, by name


class _Packed(NamedTuple):
    """All images of some folders."""

    names: bytes  # as in Paths
    bytes: NDArray[np.int64]
    times: NDArray[np.int64]


def scan_folder(root: Path, labeled: bool, remedy: str) -> Scan:
    """Returns what ``scan_classes`` finds in ``root``, or ``scan_flat`` unless ``labeled``.

    Raises DataError as they do, and where there is no such folder: its message ends with the ``remedy``.
    """
    if not root.is_dir():
        raise DataError(
            f"There is no data folder {readable(root)}. It should hold "
            f"{'one folder per class with ' if labeled else ''}images; {remedy}"
        )
    return scan_classes(str(root)) if labeled else scan_flat(str(root))


def scan_classes(root: str) -> Scan:
    """Returns the images of ``root/<class>/…`` in the order of torchvision.datasets.ImageFolder.

    Raises DataError where there is no class, a class without images, or a folder that cannot be read.
    """
    top = _identity(root)
    with os.scandir(root) as entries:
        classes = tuple(sorted(entry.name for entry in entries if _is_folder(entry)))
    if not classes:
        raise DataError(f"{readable(root)} has no class folders. Expected {readable(root)}/<class>/<image>.jpg")
    with ThreadPoolExecutor(THREADS) as pool:
        walked = pool.map(lambda name: _packed(_walk(root, name, frozenset({top}), IMAGE_SUFFIXES)), classes)
        bar = tqdm(walked, f"listing {_last(root)}", len(classes), unit=" classes", leave=False, delay=1, disable=None)
        found = list(bar)
    for name, packed in zip(classes, found, strict=True):
        if not packed.names:
            raise DataError(
                f"The class folder {readable(root)}/{readable(name)} holds no image ({', '.join(IMAGE_SUFFIXES)}). "
                "Remove it, or put its images back."
            )
    names, sizes, times = zip(*found, strict=True)
    labels = np.repeat(np.arange(len(classes)), [len(column) for column in sizes])
    return Scan(classes, Paths(b"".join(names)), labels, np.concatenate(sizes), np.concatenate(times))


def scan_flat(root: str) -> Scan:
    """Returns all images below ``root`` at any depth, by relative path. Raises DataError where there is none."""
    with ThreadPoolExecutor(THREADS) as pool:
        top, inner = _read_folder(root, "", _MORE_SUFFIXES)
        above = frozenset({_identity(root)})
        found = [
            top,
            *(f for folders in pool.map(lambda name: _walk(root, name, above, _MORE_SUFFIXES), inner) for f in folders),
        ]
    block, sizes, times = _packed(found)
    if not block:
        raise DataError(f"{readable(root)} holds no image ({', '.join(_MORE_SUFFIXES)}) at any depth.")
    names = list(Paths(block))
    order = sorted(range(len(names)), key=names.__getitem__)
    paths = Paths.of(names[at] for at in order)
    return Scan((), paths, np.zeros(len(names), np.int64), sizes[order], times[order])


def _walk(root: str, folder: str, above: frozenset[_Identity], suffixes: tuple[str, ...]) -> list[_Folder]:
    """Yields one folder and those below it, sorted by path; links are followed, except back to a folder on the way."""
    found: list[_Folder] = []
    waiting = [(folder, above)]
    while waiting:
        path, above = waiting.pop()
        identity = _identity(f"{root}/{path}")
        if identity in above:
            console.say(f"{readable(root)}/{readable(path)} leads back to a folder above it: not followed", error=True)
            continue
        here, inner = _read_folder(root, path, suffixes)
        found.append(here)
        waiting += [(name, above | {identity}) for name in inner]
    return sorted(found)


def _read_folder(root: str, path: str, suffixes: tuple[str, ...]) -> tuple[_Folder, list[str]]:
    """Returns the images in one folder, files with one of ``suffixes``, and the paths of the folders in it."""
    rows: list[_Row] = []
    inner: list[str] = []
    prefix = f"{path}/" if path else ""
    try:
        with os.scandir(f"{root}/{path}") as entries:
            for entry in entries:
                if _is_folder(entry):
                    inner.append(prefix + entry.name)
                elif entry.name.lower().endswith(suffixes):
                    rows.append((entry.name, *_status(entry)))
    except OSError as error:
        raise _unreadable(f"{root}/{path}", error) from error
    rows.sort()
    return _Folder(path, rows), inner


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: os.walk takes it for a file too
        return False


def _status(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:  # the reading of its header says why
        return -1, 0
    return (status.st_size if stat.S_ISREG(status.st_mode) else -1), status.st_mtime_ns


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return status.st_dev, status.st_ino


def _unreadable(path: str, error: OSError) -> DataError:
    # Never left out: without its files every later sample would have another index.
    return DataError(f"Cannot read the folder {readable(path)}: {error.strerror or error}. Mend it, or take it away.")


def _packed(folders: list[_Folder]) -> _Packed:
    rows = [
        (f"{folder.path}/{row[0]}" if folder.path else row[0], *row[1:]) for folder in folders for row in folder.rows
    ]
    sizes, times = (np.asarray([row[column] for row in rows], np.int64) for column in (1, 2))
    return _Packed(Paths.of(row[0] for row in rows).block, sizes, times)


def _last(path: str) -> str:
    return readable(path.rpartition("/")[2])
