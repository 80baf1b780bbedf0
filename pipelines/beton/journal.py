"""What a conversion has done so far, on the disk beside the unfinished file: one line of JSON a commit.

A commit says that all bytes up to an address are on the disk, and what they are. Each line ends in its own checksum,
so that a line which a kill or a power cut left unfinished is told from a whole one, and dropped.
"""

import base64
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.beton.writer import RECORD, Place


@dataclass
class Commit:
    """Holds what was done since the commit before."""

    done: int  # samples so far, those skipped too
    place: Place
    records: list[tuple[Any, ...]] | NDArray[np.void]
    noted: list[tuple[int, str, str, str]] = field(default_factory=list)  # index, path, status, reason


class Journal:
    """Appends commits to one file."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Begins a journal, or goes on with one that ``read_identity`` and ``read_commits`` have accepted."""
        self.path = path
        whole = _whole_length(path) if path.exists() else 0
        self._file = path.open("r+b" if whole else "wb")
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._append(identity)

    def append(self, commit: Commit) -> None:
        """Adds a commit; it is on the disk when this returns."""
        records = np.array(commit.records, RECORD)
        self._append(
            {
                "done": commit.done,
                "place": list(commit.place),
                "records": base64.b64encode(records.tobytes()).decode(),
                "odd": commit.noted,
            }
        )

    def _append(self, content: dict[str, Any]) -> None:
        line = json.dumps(content).encode()  # escapes what is not ASCII, names that are no Unicode included
        self._file.write(line + b"\t%08x\n" % zlib.crc32(line))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_identity(path: Path) -> dict[str, Any] | None:
    """Returns the first line; None where not even that is whole."""
    return next(_lines(path), None)


def read_commits(path: Path) -> Iterator[Commit]:
    """Yields all whole commits, one at a time."""
    lines = _lines(path)
    next(lines, None)
    for line in lines:
        records = np.frombuffer(base64.b64decode(line["records"]), RECORD)
        noted = [(index, name, status, reason) for index, name, status, reason in line["odd"]]
        yield Commit(line["done"], Place(*line["place"]), records, noted)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for raw in file:
            if not _is_whole(raw):
                return
            yield json.loads(raw[:-10])


def _is_whole(raw: bytes) -> bool:
    return len(raw) > 10 and raw.endswith(b"\n") and raw[-10:-1] == b"\t%08x" % zlib.crc32(raw[:-10])


def _whole_length(path: Path) -> int:
    """Returns the bytes up to the end of the last whole line."""
    length = 0
    with path.open("rb") as file:
        for raw in file:
            if not _is_whole(raw):
                break
            length += len(raw)
    return length
