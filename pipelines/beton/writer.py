"""Writes a .beton: where each sample's bytes lie, and the tables that FFCV's own Reader finds them by.

The layout is a pure function of the samples' sizes, in order: so a resumed conversion and merged shards give the bytes
of an uninterrupted one. No sample crosses a page's border, as in FFCV's files. The page is 8 MiB; where a sample is
larger it doubles until the sample fits, which breaks nothing before it, since large pages end where small ones do.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines import console
from pipelines.beton.format import (
    ALLOC_TABLE_TYPE,
    LONGEST_START,
    OF_IMAGES,
    Layout,
    columns,
    header,
    layout_of,
    rows_and_table,
)
from pipelines.beton.status import KINDS
from pipelines.errors import DataError
from pipelines.files import NO_LOCKS
from pipelines.names import readable
from pipelines.samples.image_header import Buffer

PAGE = 1 << 23
"""FFCV's own default, bytes."""
RECORD = np.dtype(
    [
        ("position", "<i8"),
        ("label", "<i8"),
        ("ptr", "<u8"),
        ("size", "<u8"),
        ("width", "<u2"),
        ("height", "<u2"),
        ("fate", "u1"),  # the Status; files have called it so from the first
        ("digest", "<u4"),
        ("source", "<u4"),
    ]
)
"""All that is known of one row: what the tables are made of, and the digests that --verify compares."""
_MOST_BUFFERS = 512
"""Less than the system's limit on the parts of one write."""


class Place(NamedTuple):
    """Says where writing goes on."""

    end: int
    page: int


class BetonWriter:
    """Writes one file, which nobody else may write meanwhile. ``begin`` comes before the first sample."""

    def __init__(self, path: Path, layout: Layout = OF_IMAGES) -> None:
        self.path, self._layout = path, layout
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self.descriptor)
            raise DataError(f"Another conversion is writing {readable(path)}. Wait for it, or stop it.") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(self.descriptor)
                raise
            console.say(
                f"{readable(path)} cannot be locked ({error.strerror}): see that nobody else writes it.", error=True
            )
        if not path.exists() or path.stat().st_ino != os.fstat(self.descriptor).st_ino:
            os.close(self.descriptor)  # it was given its final name between the two lines above
            raise DataError(
                f"Another conversion has just finished {readable(path)}. Look at its result before starting again."
            )

    def begin(self, samples: int, place: Place | None = None) -> None:
        """Begins a file of at most ``samples`` rows, or goes on at ``place``, cutting off what lies behind it."""
        tables = self._layout.start + samples * self._layout.metadata.itemsize
        self.place = place or Place(_aligned(tables, PAGE), PAGE)
        os.ftruncate(self.descriptor, 0 if place is None else place.end)

    def close(self) -> None:
        """Gives the file back; closing twice is fine."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def write(self, contents: Sequence[Buffer]) -> list[int]:
        """Appends the samples' bytes; returns where each begins."""
        end, page = self.place
        starts, run, run_start = [], list[Buffer](), end
        for content in contents:
            size = len(content)
            while size > page:
                page *= 2
            border = (end // page + 1) * page
            if end + size > border:
                self._write_all(run, run_start)
                run, run_start, end = [], border, border
            starts.append(end)
            run.append(content)
            end += size
        self._write_all(run, run_start)
        self.place = Place(end, page)
        return starts

    def _write_all(self, buffers: list[Buffer], offset: int) -> None:
        views = [memoryview(buffer) for buffer in buffers]
        while views:
            written = os.pwritev(self.descriptor, views[:_MOST_BUFFERS], offset)
            offset += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if views and written:
                views[0] = views[0][written:]

    def sync(self) -> None:
        """Waits until all that was written is on the disk."""
        os.fdatasync(self.descriptor)

    def finish(self, rows: int, blocks: Iterable[NDArray[np.void]]) -> str:
        """Writes the tables of ``rows`` records, block by block; returns ``tables_digest`` of the file."""
        table = _aligned(self.place.end, self.place.page)
        os.ftruncate(self.descriptor, self.place.end)
        os.ftruncate(self.descriptor, table)
        self._write_all([header(self._layout, rows, self.place.page, table)], 0)
        row = 0
        for block in blocks:
            metadata, allocated = _metadata(block, self._layout), _allocated(block, row)
            self._write_all([metadata.tobytes()], self._layout.start + row * metadata.itemsize)
            self._write_all([allocated.tobytes()], table + row * ALLOC_TABLE_TYPE.itemsize)
            row += len(block)
        assert row == rows, "the journal's own count"
        os.fsync(self.descriptor)
        return tables_digest(self.path)


def tables_digest(beton: Path) -> str:
    """Returns the SHA-256 over a .beton without its samples: header, descriptors, metadata, allocation table.

    Raises ValueError where its header is damaged.
    """
    with beton.open("rb") as file:
        start = file.read(LONGEST_START)
        (rows, table), layout = rows_and_table(start), layout_of(start)
        file.seek(0)
        found, left = hashlib.sha256(), layout.start + rows * layout.metadata.itemsize
        while left and (block := file.read(min(left, 1 << 20))):
            found.update(block)
            left -= len(block)
        file.seek(table)
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _aligned(address: int, page: int) -> int:
    return -(-address // page) * page


def _metadata(block: NDArray[np.void], layout: Layout) -> NDArray[np.void]:
    """Returns the metadata of consecutive records."""
    metadata = np.zeros(len(block), layout.metadata)
    rows = columns(metadata, layout)
    rows["label"][:], rows["index"][:] = block["label"], block["position"]
    image, kind = rows["image"], KINDS[block["fate"]]
    if layout is OF_IMAGES:
        image["mode"], image["data_ptr"] = kind, block["ptr"]
        image["width"], image["height"] = block["width"], block["height"]
    else:
        image["ptr"], image["size"], rows["kind"][:] = block["ptr"], block["size"], kind
        rows["width"][:], rows["height"][:] = block["width"], block["height"]
    return metadata


def _allocated(block: NDArray[np.void], row: int) -> NDArray[np.void]:
    """Returns the rows of the allocation table of consecutive records from ``row`` on."""
    allocated = np.zeros(len(block), ALLOC_TABLE_TYPE)
    allocated["sample_id"] = np.arange(row, row + len(block))
    allocated["ptr"], allocated["size"] = block["ptr"], block["size"]
    return allocated
