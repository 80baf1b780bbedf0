"""What is remembered of a listing: a file in the user's cache folder that spares reading the same headers again.

One file per listed folder, with path, class, width, height, bytes and time of each image.
"""

import fcntl
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.samples.folder_scan import Scan, shown

_FORMAT = "1"
_NAMED = 3
"""How many files of a kind the line about changes names."""


class Remembered(NamedTuple):
    """Columns of the cache file, one row per image."""

    names: NDArray[np.uint8]  # the relative paths' bytes, "\0" after each
    labels: NDArray[np.int64]
    bytes: NDArray[np.int64]
    times: NDArray[np.int64]
    widths: NDArray[np.int32]  # 0: was no image; such a file is always read again
    heights: NDArray[np.int32]


class Reused(NamedTuple):
    """What of a scan is known already."""

    widths: NDArray[np.int32]  # [n] 0 where not known
    heights: NDArray[np.int32]
    changes: str  # which files were added, removed or changed; empty where none


def cache_path(root: Path, kind: str) -> Path:
    """Where the listing of ``root`` is remembered."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "debiaspl" / "listings"
    key = hashlib.sha256(b"\0".join((os.fsencode(root.resolve()), kind.encode(), _FORMAT.encode())))
    return folder / f"{key.hexdigest()}.npz"


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Of several processes (the ranks of a run) one reads the headers; the others wait, and find them remembered."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:  # nothing can be written there: nothing to wait for
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks: every process reads for itself
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def load(path: Path) -> Remembered | None:
    """The cache file's content; None where there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return Remembered(*(content[column] for column in Remembered._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def save(path: Path, content: Remembered) -> None:
    """Write a cache file; a folder that cannot be written costs the cache, not the run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                np.savez(file, **content._asdict())
            except BaseException:
                Path(file.name).unlink()
                raise
        os.replace(file.name, path)
    except OSError:
        return


def reuse(old: Remembered, scan: Scan) -> Reused:
    """The sizes of files that are as they were."""
    if old.names.tobytes() == scan.names.block:
        same = (old.bytes == scan.bytes) & (old.times == scan.times)
        changed = [scan.names[index] for index in np.flatnonzero(~same)]
        widths, heights = np.where(same, old.widths, 0), np.where(same, old.heights, 0)
        return Reused(widths, heights, _line({"changed": changed}))
    # Names as bytes, so that nothing depends on how this process spells them.
    before = {name: row for row, name in enumerate(old.names.tobytes().split(b"\0")[:-1])}
    rows = np.asarray([before.pop(name, -1) for name in scan.names.block.split(b"\0")[:-1]], np.int64)
    known = rows >= 0
    same = known & (old.bytes[rows] == scan.bytes) & (old.times[rows] == scan.times)
    line = _line(
        {
            "added": [scan.names[index] for index in np.flatnonzero(~known)],
            "removed": [os.fsdecode(name) for name in before],
            "changed": [scan.names[index] for index in np.flatnonzero(known & ~same)],
        }
    )
    return Reused(np.where(same, old.widths[rows], 0), np.where(same, old.heights[rows], 0), line)


def _line(kinds: dict[str, list[str]]) -> str:
    """'2 added (a/0.jpg, a/1.jpg), 1 removed (b/7.jpg)'"""
    return ", ".join(
        f"{len(names)} {kind} ({', '.join(map(shown, names[:_NAMED]))}{', …' if len(names) > _NAMED else ''})"
        for kind, names in kinds.items()
        if names
    )
