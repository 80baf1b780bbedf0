"""One conversion from its first sample to the finished files: whatever yields stored images, in order, fills it.

Beside NAME.beton lie NAME.beton.json (what it was made of), .records.npy (one row per sample: place and digests) and
.files.csv (every odd file and its fate). Until all four are complete they are called NAME.beton.partial…, and
NAME.beton.partial.journal says how far they are. A kill at any moment leaves either these, for --resume, or the result.
"""

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.beton.journal import Commit, Journal, read_commits, read_identity
from pipelines.beton.one_image import Fate, StoredImage
from pipelines.beton.writer import RECORD, BetonWriter, Place
from pipelines.errors import DataError
from pipelines.files import sync

SIDECAR, RECORDS, FILES = ".json", ".records.npy", ".files.csv"
COMMIT_BYTES = 1 << 24
COMMIT_SECONDS = 20.0
"""A commit is due after either, once the one before is on the disk. Small ones keep the disk writing all the time."""
_MOST_UNCOMMITTED = 1 << 30
"""Bytes that may wait for a slow disk."""


class Session:
    """Samples go in by ``add``; ``finish`` gives the file its name."""

    def __init__(self, beton: Path, samples: int, identity: dict[str, Any], resume: bool) -> None:
        """``identity`` (plain JSON) is all that shapes the bytes; a journal with another one is not resumed."""
        self.beton, self.identity = beton, identity
        self.partial = beton.with_name(f"{beton.name}.partial")
        self._journal_path = Path(f"{self.partial}.journal")
        self.done = self.committed = 0  # samples
        self.fates: Counter[Fate] = Counter()
        beton.parent.mkdir(parents=True, exist_ok=True)
        self._writer = BetonWriter(self.partial)
        try:  # after the lock is had: never another process' journal
            place = self._resumed() if resume else None
            self._writer.begin(samples, place)
        except BaseException:
            self._writer.close()
            raise
        if place is None and self._journal_path.exists():
            print(f"{self.partial}, which --resume would have gone on with, is begun anew.", file=sys.stderr)
            self._journal_path.unlink()
        self._journal = Journal(self._journal_path, identity)
        self._records: list[tuple[Any, ...]] = []
        self._odd: list[tuple[int, str, str, str]] = []
        self._bytes, self._last = 0, time.monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._committing: Future[None] | None = None

    def _resumed(self) -> Place | None:
        """Where an earlier run stopped; None where there is nothing to go on with."""
        found = read_identity(self._journal_path) if self._journal_path.exists() and self.partial.exists() else None
        if found is None:
            return None
        if found != self.identity:
            raise DataError(
                f"{self.partial} was begun with {differences(found, self.identity)}. Resume with what it was begun "
                "with, or start again without --resume."
            )
        place = None
        for commit in read_commits(self._journal_path):
            place, self.done = commit.place, commit.done
            self.fates.update(map(Fate, commit.records["fate"].tolist()))  # type: ignore[call-overload]
            self.fates[Fate.LEFT_OUT] += sum(fate == Fate.LEFT_OUT.words for _, _, fate, _ in commit.odd)
        self.committed = self.done
        if place and self.partial.stat().st_size < place.end:
            raise DataError(f"{self.partial} is shorter than its journal says. Start again without --resume.")
        return place

    def add(self, images: Iterable[tuple[StoredImage, str]]) -> None:
        """The next samples, each with its path for the list of odd files."""
        stored = []
        for image, path in images:
            self.done += 1
            self.fates[image.fate] += 1
            if image.reason:
                self._odd.append((image.position, path, image.fate.words, image.reason))
            if image.fate != Fate.LEFT_OUT:
                stored.append(image)
        contents = [image.content for image in stored]
        for image, start in zip(stored, self._writer.write(contents), strict=True):
            place = start, len(image.content), image.width, image.height, image.fate
            self._records.append((image.position, image.label, *place, image.digest, image.source))
        self._bytes += sum(map(len, contents))
        if self._bytes >= COMMIT_BYTES or time.monotonic() - self._last >= COMMIT_SECONDS:
            if self._bytes >= _MOST_UNCOMMITTED:
                self._wait()
            if self._committing is None or self._committing.done():
                self._commit()

    def _commit(self) -> None:
        """In a thread of its own, so that the next samples are prepared while the disk works."""
        self._wait()
        commit = Commit(self.done, self._writer.place, self._records, self._odd)
        self._records, self._odd, self._bytes, self._last = [], [], 0, time.monotonic()

        def write() -> None:
            self._writer.sync()  # first: the journal never speaks of bytes that are not there
            self._journal.append(commit)
            self.committed = commit.done

        self._committing = self._pool.submit(write)

    def _wait(self) -> None:
        if self._committing is not None:
            self._committing.result()

    def finish(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Complete all files and give them their names; returns the sidecar, ``facts`` in it."""
        self._commit()
        self._wait()
        rows = sum(count for fate, count in self.fates.items() if fate != Fate.LEFT_OUT)
        if not rows:
            raise DataError(f"None of the {self.done} files can be stored in {self.beton}: look at --data.")
        with Path(f"{self.partial}{RECORDS}").open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.lib.format.dtype_to_descr(RECORD), "fortran_order": False, "shape": (rows,)}
            )
            tables = self._writer.finish(rows, self._blocks(file))
        left_out = self._write_files()
        sidecar = {
            **self.identity,
            **facts,
            "count": rows,
            "bytes": self.partial.stat().st_size,
            "originals": self.fates[Fate.KEPT],
            "fates": {fate.words: self.fates[fate] for fate in Fate},
            "tables_sha256": tables,
            "left_out": left_out,
        }
        Path(f"{self.partial}{SIDECAR}").write_text(json.dumps(sidecar, indent=1) + "\n")
        for suffix in (RECORDS, FILES, SIDECAR):
            sync(Path(f"{self.partial}{suffix}"))
        publish(self.beton)
        self.close()
        self._journal_path.unlink(missing_ok=True)
        return sidecar

    def _blocks(self, records: IO[bytes]) -> Iterator[NDArray[np.void]]:
        for commit in read_commits(self._journal_path):
            block = np.asarray(commit.records)
            records.write(block.tobytes())
            yield block

    def _write_files(self) -> list[list[int | str]]:
        """The list of odd files; returns those left out."""
        left_out: list[list[int | str]] = []
        with Path(f"{self.partial}{FILES}").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["index", "path", "fate", "reason"])
            for commit in read_commits(self._journal_path):
                table.writerows(commit.odd)
                left_out += [[at, path, why] for at, path, fate, why in commit.odd if fate == Fate.LEFT_OUT.words]
        return left_out

    def close(self) -> None:
        """Let go of the files; a session that is not finished can be resumed from its last commit."""
        self._pool.shutdown()
        self._writer.close()
        self._journal.close()

    def discard(self) -> None:
        """Remove all that is unfinished."""
        self.close()
        for path in (
            self.partial,
            self._journal_path,
            *(Path(f"{self.partial}{s}") for s in (RECORDS, FILES, SIDECAR)),
        ):
            path.unlink(missing_ok=True)


def publish(beton: Path) -> None:
    """Give complete files their names. Done again after a kill in its middle, it goes on where it was."""
    partial = beton.with_name(f"{beton.name}.partial")
    if partial.exists():
        Path(f"{beton}{SIDECAR}").unlink(missing_ok=True)  # never an old sidecar beside a new file
        partial.replace(beton)
    for suffix in (RECORDS, FILES, SIDECAR):
        if (complete := Path(f"{partial}{suffix}")).exists():
            complete.replace(Path(f"{beton}{suffix}"))
    sync(beton.parent)


def finished(beton: Path, identity: dict[str, Any]) -> bool:
    """Whether the result of this very conversion is there; completes one whose naming was cut short."""
    partial = beton.with_name(f"{beton.name}.partial")
    if not partial.exists() and Path(f"{partial}{SIDECAR}").exists():
        publish(beton)
    if partial.exists() or not beton.exists() or not Path(f"{beton}{SIDECAR}").exists():
        return False
    if identity_in(read_sidecar(beton)) != identity:
        return False
    Path(f"{partial}.journal").unlink(missing_ok=True)  # the last step, which a kill may have spared
    return True


def read_sidecar(beton: Path) -> dict[str, Any]:
    """What a .beton was made of, as the converter wrote it."""
    path = Path(f"{beton}{SIDECAR}")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}), and nothing else says what {beton} was made of.") from error
    return content


def identity_in(sidecar: dict[str, Any]) -> dict[str, Any]:
    """All that shapes a file's bytes, as its sidecar states it."""
    return {key: sidecar.get(key) for key in ("fingerprint", "positions", "parameters", "versions")}


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """How two identities differ, for a message."""
    flat = [{**each, **each.get("parameters", {}), **each.get("versions", {})} for each in (one, other)]
    keys = [key for key in {**flat[0], **flat[1]} if key not in ("parameters", "versions")]
    return ", ".join(
        f"{key} {flat[0].get(key)} (now {flat[1].get(key)})" for key in keys if flat[0].get(key) != flat[1].get(key)
    )


def unwritable(beton: Path, error: OSError) -> DataError:
    """The message for whatever the disk refuses."""
    reason = error.strerror or error
    return DataError(f"Cannot write {beton}: {reason}. Check the folder's permissions and the disk's space.")
