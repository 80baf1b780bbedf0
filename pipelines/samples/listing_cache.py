"""What is remembered of a listing: a file in the user's cache folder that spares reading the same headers again.

One file per listed folder, with path, class, width, height, bytes and time of each image. Nothing in it is believed
before it was checked; whatever is wrong with it costs the time to read the headers again, never the run.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import first_few
from pipelines.files import cache_folder, open_regular, replacing
from pipelines.names import readable
from pipelines.samples.folder_scan import Scan

_FORMAT = "2"
_CHECKSUM = "sha256"
"""The column that holds the digest of all others."""
_LARGEST = 4 << 30
"""Bytes; some 50 million images. A larger file is not one of ours."""
_NAMED = 3
"""How many files of a kind the line about changes names."""


class Remembered(NamedTuple):
    """Holds the columns of the cache file, one row per image."""

    names: NDArray[np.uint8]  # the relative paths' bytes, "\0" after each
    labels: NDArray[np.int64]
    bytes: NDArray[np.int64]
    times: NDArray[np.int64]
    widths: NDArray[np.int32]  # 0: was no image; such a file is always read again
    heights: NDArray[np.int32]

    def digest(self) -> NDArray[np.uint8]:
        """Returns the SHA-256 [32] over all columns."""
        digest = hashlib.sha256()
        for column in self:
            digest.update(np.ascontiguousarray(column).data)
        return np.frombuffer(digest.digest(), np.uint8)

    def is_sound(self) -> bool:
        """Whether lengths, types and values are those of a listing."""
        columns: tuple[NDArray[Any], ...] = self
        types = (np.uint8, *(np.int64,) * 3, *(np.int32,) * 2)
        if any(column.ndim != 1 or column.dtype != kind for column, kind in zip(columns, types, strict=True)):
            return False
        count = len(self.labels)
        return bool(
            count > 0
            and all(len(column) == count for column in columns[1:])
            and len(self.names) > 0
            and self.names[-1] == 0
            and np.count_nonzero(self.names == 0) == count
            and min(self.labels.min(), self.widths.min(), self.heights.min(), self.bytes.min() + 1) >= 0
            and ((self.widths == 0) == (self.heights == 0)).all()
        )


class Reused(NamedTuple):
    """Holds what of a scan is known already."""

    widths: NDArray[np.int32]  # [n] 0 where not known
    heights: NDArray[np.int32]
    changes: str  # which files were added, removed or changed; empty where none


def cache_path(root: Path, kind: str) -> Path | None:
    """Returns where the listing of ``root`` is remembered; None where this user has no cache folder."""
    folder = cache_folder()
    key = hashlib.sha256(b"\0".join((os.fsencode(root.resolve()), kind.encode(), _FORMAT.encode())))
    return folder and folder / "listings" / f"{key.hexdigest()}.npz"


@contextmanager
def one_at_a_time(path: Path | None) -> Iterator[None]:
    """Lets one of several processes (the ranks of a run) read headers; the others wait, and find them remembered."""
    lock = None if path is None else _open_lock(path)
    if lock is None:  # nothing can be remembered: nothing to wait for
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks: every process reads for itself
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def load(path: Path | None) -> Remembered | None:
    """Returns the cache file's content; None where there is none, or none that is sound."""
    if path is None:
        return None
    try:
        with open_regular(path, _LARGEST) as file, np.load(file, allow_pickle=False) as columns:
            content = Remembered(*(columns[column] for column in Remembered._fields))
            checksum = columns[_CHECKSUM]
    except Exception:  # numpy and zipfile raise whatever the damage makes them raise
        return None
    return content if content.is_sound() and np.array_equal(checksum, content.digest()) else None


def save(path: Path | None, content: Remembered) -> None:
    """Writes a cache file; a folder that cannot be written costs the cache, not the run."""
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as building, building.open("wb") as file:
            np.savez(file, **{**content._asdict(), _CHECKSUM: content.digest()})


def reuse(old: Remembered, scan: Scan) -> Reused:
    """Returns the sizes of files that are as they were, and a line about those that are not."""
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
    """Returns a line such as '2 added (a/0.jpg, a/1.jpg), 1 removed (b/7.jpg)'."""
    return ", ".join(
        f"{len(names)} {kind} ({first_few([readable(name) for name in names], _NAMED)})"
        for kind, names in kinds.items()
        if names
    )
