"""One conversion from its first sample to the finished files: whatever yields stored images, in order, fills it.

Beside NAME.beton lie NAME.beton.json (what it was made of), .records.npy (one row per sample: place and digests) and
.files.csv (every file with a note: its status and the note). Until all four are complete they are called
NAME.beton.partial…, and NAME.beton.partial.journal says how far they are. A kill at any moment leaves either these, for
--resume, or the result.
"""

import csv
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from pipelines import console
from pipelines.beton.format import OF_IMAGES, OF_PLANES
from pipelines.beton.journal import Commit, Journal, read_commits, read_identity
from pipelines.beton.one_image import StoredImage
from pipelines.beton.sidecar import (
    Sidecar,
    differences,
    identity_in,
    read_sidecar,
    sidecar_path,
    whole_identity,
    write_sidecar,
)
from pipelines.beton.status import Status
from pipelines.beton.writer import RECORD, BetonWriter, Place
from pipelines.errors import DataError
from pipelines.files import sync
from pipelines.names import readable

RECORDS, FILES = ".records.npy", ".files.csv"
COMMIT_BYTES = 1 << 24
COMMIT_SECONDS = 20.0
"""A commit is due after either, once the one before is on the disk. Small ones keep the disk writing all the time."""
_MOST_UNCOMMITTED = 1 << 30
"""Bytes that may wait for a slow disk."""


class Session:
    """Stores the samples that ``add`` is given, and gives the file its name in ``finish``."""

    def __init__(self, beton: Path, samples: int, identity: dict[str, Any], resume: bool) -> None:
        """Begins or resumes a conversion.

        ``identity`` (plain JSON) is all that shapes the bytes; a journal with another one is not resumed.
        """
        self.beton, self.identity = beton, identity
        self.partial = beton.with_name(f"{beton.name}.partial")
        self._journal_path = Path(f"{self.partial}.journal")
        self.done = self.committed = 0  # samples
        self.statuses: Counter[Status] = Counter()
        beton.parent.mkdir(parents=True, exist_ok=True)
        planes = identity.get("parameters", {}).get("mode") == "planes"
        self._writer = BetonWriter(self.partial, OF_PLANES if planes else OF_IMAGES)
        try:  # after the lock is had: never another process' journal
            place = self._resumed() if resume else None
            self._writer.begin(samples, place)
        except BaseException:
            self._writer.close()
            raise
        if place is None and self._journal_path.exists():
            console.say(f"{readable(self.partial)}, which --resume would have gone on with, is begun anew.", error=True)
            self._journal_path.unlink()
        self._journal = Journal(self._journal_path, identity)
        self._records: list[tuple[Any, ...]] = []
        self._noted: list[tuple[int, str, str, str]] = []
        self._bytes, self._last = 0, time.monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._committing: Future[None] | None = None

    def _resumed(self) -> Place | None:
        """Returns where an earlier run stopped; None where there is nothing to go on with."""
        found = read_identity(self._journal_path) if self._journal_path.exists() and self.partial.exists() else None
        if found is None:
            return None
        found = whole_identity(found)
        if found != self.identity:
            raise DataError(
                f"{readable(self.partial)} was begun with {differences(found, self.identity)}. Resume with "
                "what it was begun "
                "with, or start again without --resume."
            )
        place = None
        for commit in read_commits(self._journal_path):
            place, self.done = commit.place, commit.done
            self.statuses.update(map(Status, commit.records["fate"].tolist()))  # type: ignore[call-overload]
            self.statuses[Status.SKIPPED] += sum(status == Status.SKIPPED.words for _, _, status, _ in commit.noted)
        self.committed = self.done
        if place and self.partial.stat().st_size < place.end:
            raise DataError(f"{readable(self.partial)} is shorter than its journal says. Start again without --resume.")
        return place

    def add(self, images: Iterable[tuple[StoredImage, str]]) -> None:
        """Stores the next samples, each given with its path for the list of files with notes."""
        stored = []
        for image, path in images:
            self.done += 1
            self.statuses[image.status] += 1
            if image.reason:
                self._noted.append((image.index, path, image.status.words, image.reason))
            if image.status != Status.SKIPPED:
                stored.append(image)
        contents = [image.content for image in stored]
        for image, start in zip(stored, self._writer.write(contents), strict=True):
            place = start, len(image.content), image.width, image.height, image.status
            self._records.append((image.index, image.label, *place, image.digest, image.source))
        self._bytes += sum(map(len, contents))
        if self._bytes >= COMMIT_BYTES or time.monotonic() - self._last >= COMMIT_SECONDS:
            if self._bytes >= _MOST_UNCOMMITTED:
                self._wait()
            if self._committing is None or self._committing.done():
                self._commit()

    def _commit(self) -> None:
        """Commits in a thread of its own, so that the next samples are prepared while the disk works."""
        self._wait()
        commit = Commit(self.done, self._writer.place, self._records, self._noted)
        self._records, self._noted, self._bytes, self._last = [], [], 0, time.monotonic()

        def write() -> None:
            self._writer.sync()  # first: the journal never speaks of bytes that are not there
            self._journal.append(commit)
            self.committed = commit.done

        self._committing = self._pool.submit(write)

    def _wait(self) -> None:
        if self._committing is not None:
            self._committing.result()

    def finish(self, facts: dict[str, Any]) -> Sidecar:
        """Completes all files and gives them their names; returns the sidecar, ``facts`` in it."""
        self._commit()
        self._wait()
        rows = sum(count for status, count in self.statuses.items() if status != Status.SKIPPED)
        if not rows:
            raise DataError(f"None of the {self.done} files can be stored in {readable(self.beton)}: look at --data.")
        with Path(f"{self.partial}{RECORDS}").open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.lib.format.dtype_to_descr(RECORD), "fortran_order": False, "shape": (rows,)}
            )
            tables = self._writer.finish(rows, self._blocks(file))
        left_out = self._write_files()
        content = {
            **self.identity,
            **facts,
            "count": rows,
            "bytes": self.partial.stat().st_size,
            "originals": self.statuses[Status.KEPT],
            "fates": {status.words: self.statuses[status] for status in Status},
            "tables_sha256": tables,
            "left_out": left_out,
        }
        sidecar = cast("Sidecar", content)
        write_sidecar(self.partial, sidecar)
        for path in _beside(self.partial):
            sync(path)
        publish(self.beton)
        self.close()
        self._journal_path.unlink(missing_ok=True)
        return sidecar

    def _blocks(self, records: IO[bytes]) -> Iterator[NDArray[np.void]]:
        for commit in read_commits(self._journal_path):
            block = np.asarray(commit.records)
            records.write(block.tobytes())
            yield block

    def _write_files(self) -> list[tuple[int, str, str]]:
        """Writes the list of files with notes; returns index, path and reason of those that were skipped."""
        left_out: list[tuple[int, str, str]] = []
        with Path(f"{self.partial}{FILES}").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["index", "path", "fate", "reason"])  # "fate": the status, as every version calls it there
            for commit in read_commits(self._journal_path):
                for position, path, status, reason in commit.noted:
                    table.writerow([position, readable(path, "csv"), status, readable(reason, "csv")])
                skipped = (each for each in commit.noted if each[2] == Status.SKIPPED.words)
                left_out += [(index, path, reason) for index, path, _, reason in skipped]
        return left_out

    def close(self) -> None:
        """Lets go of the files; a session that is not finished can be resumed from its last commit."""
        self._pool.shutdown()
        self._writer.close()
        self._journal.close()

    def discard(self) -> None:
        """Removes all that is unfinished."""
        self.close()
        for path in (self.partial, self._journal_path, *_beside(self.partial)):
            path.unlink(missing_ok=True)


def _beside(beton: Path) -> tuple[Path, Path, Path]:
    """Returns the files that belong to ``beton``; the sidecar, which vouches for all, last."""
    return Path(f"{beton}{RECORDS}"), Path(f"{beton}{FILES}"), sidecar_path(beton)


def publish(beton: Path) -> None:
    """Gives complete files their names. Done again after a kill in its middle, it goes on where it was."""
    partial = beton.with_name(f"{beton.name}.partial")
    if partial.exists():
        sidecar_path(beton).unlink(missing_ok=True)  # never an old sidecar beside a new file
        partial.replace(beton)
    for complete, final in zip(_beside(partial), _beside(beton), strict=True):
        if complete.exists():
            complete.replace(final)
    sync(beton.parent)


def finished(beton: Path, identity: dict[str, Any]) -> bool:
    """Whether the result of this very conversion is there; completes one whose naming was cut short."""
    partial = beton.with_name(f"{beton.name}.partial")
    if not partial.exists() and sidecar_path(partial).exists():
        publish(beton)
    if partial.exists() or not beton.exists() or not sidecar_path(beton).exists():
        return False
    if identity_in(read_sidecar(beton)) != identity:
        return False
    Path(f"{partial}.journal").unlink(missing_ok=True)  # the last step, which a kill may have spared
    return True


def unwritable(beton: Path, error: OSError) -> DataError:
    """Returns the error to raise for whatever the disk refuses."""
    reason = error.strerror or error
    return DataError(f"Cannot write {readable(beton)}: {reason}. Check the folder's permissions and the disk's space.")
