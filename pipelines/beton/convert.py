"""Converts the files of one listing: threads prepare the samples, in listing order, and a session stores them."""

import csv
import hashlib
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import features
from tqdm import tqdm

from pipelines import console
from pipelines.beton import turbojpeg
from pipelines.beton.one_image import Encoding, StoredImage, stored_image
from pipelines.beton.room import require_room
from pipelines.beton.session import FILES, Session, finished, unwritable
from pipelines.beton.sidecar import Sidecar
from pipelines.beton.status import Status
from pipelines.errors import DataError, MissingDependency
from pipelines.names import readable
from pipelines.samples.folder_scan import scan_folder
from pipelines.samples.listing import UNKNOWN, Listing

_TASK = 16
"""Files per task of a thread."""
_TASK_BYTES = 1 << 21
"""Memory that a task reads into, and that the next one reuses; files that do not fit get their own."""
_MOST_BYTES = 1 << 25
"""A task ends early with so many bytes: its memory does not follow the sizes of the images."""
_AHEAD = 2
"""Tasks per worker whose results may wait for their turn."""


def scan(root: Path, *, labeled: bool = True) -> Listing:
    """Returns the listing without the images' sizes, so that no file is opened twice.

    Raises DataError for a folder without images.
    """
    found = scan_folder(root, labeled, "name another with --data.")
    nothing = np.zeros(len(found.names), np.int32)
    labels = found.labels if labeled else np.full(len(found.names), UNKNOWN, np.int64)
    return Listing(root, found.classes, found.names, labels, nothing, nothing)


def convert(
    listing: Listing,
    beton: Path,
    encoding: Encoding,
    workers: int,
    *,
    indices: NDArray[np.int64] | None = None,
    shard: str = "",
    resume: bool = False,
    strict: bool = False,
) -> None:
    """Writes ``beton`` of the samples at ``indices`` (None: all), its sidecar, records and list of files with notes.

    Raises DataError where files cannot be read or written, or (``strict``) where one cannot be stored.
    """
    chosen = listing.indices if indices is None else np.sort(indices)
    identity = identity_of(listing, chosen, encoding, shard)
    try:
        if resume and finished(beton, identity):
            console.say(f"{readable(beton)} is complete already.")
            return
        partial = beton.with_name(f"{beton.name}.partial")
        require_room(listing, chosen, encoding, beton, partial.stat().st_size if resume and partial.exists() else 0)
        session = Session(beton, len(chosen), identity, resume)
    except OSError as error:
        raise unwritable(beton, error) from error
    try:
        begin = time.monotonic()
        _fill(session, listing, chosen, encoding, workers, strict)
        sidecar = session.finish(facts(listing.classes, len(listing), len(chosen)))
    except BaseException as error:
        # What is committed is kept for --resume, unless the user asked for all or nothing.
        session.close()
        if strict or not session.committed:
            session.discard()
        if isinstance(error, OSError):
            raise unwritable(beton, error) from error
        raise
    report(beton, sidecar, len(chosen), time.monotonic() - begin)


def _fill(
    session: Session, listing: Listing, chosen: NDArray[np.int64], encoding: Encoding, workers: int, strict: bool
) -> None:
    with tqdm(
        total=len(chosen),
        initial=session.done,
        desc=readable(listing.root.name),
        unit=" images",
        smoothing=0.05,
        disable=None,  # where nobody watches, the summary says it
    ) as bar:
        for images in prepared(listing, chosen[session.done :], encoding, workers):
            if strict and (refused := next((image for image in images if image.status == Status.SKIPPED), None)):
                raise DataError(
                    f"Cannot store {readable(listing.path(refused.index))}: {refused.reason}. "
                    "Replace the file or take it out of the data, or leave out --strict."
                )
            session.add((image, listing.paths[image.index]) for image in images)
            bar.update(len(images))


def prepared(
    listing: Listing, chosen: NDArray[np.int64], encoding: Encoding, workers: int
) -> Iterator[list[StoredImage]]:
    """Yields all images in order, prepared by ``workers`` threads; their bytes last until the next ones are asked for.

    Threads, not processes: reading, decoding, resizing, encoding and hashing all happen without the GIL.
    """
    root, ahead = f"{listing.root}/", workers * _AHEAD
    free = deque(memoryview(bytearray(_TASK_BYTES)) for _ in range(ahead + 1))

    def prepare(first: int, last: int, memory: memoryview) -> list[StoredImage]:
        images, left = [], _MOST_BYTES
        for index, label in zip(chosen[first:last].tolist(), listing.labels[chosen[first:last]].tolist(), strict=True):
            image = stored_image(root + listing.paths[index], index, label, encoding, memory)
            images.append(image)
            if isinstance(image.content, memoryview) and image.content.obj is memory.obj:
                memory = memory[len(image.content) :]
            if (left := left - len(image.content)) < 0:
                break
        return images

    waiting: deque[tuple[int, int, memoryview, Future[list[StoredImage]]]] = deque()

    def first_task() -> Iterator[list[StoredImage]]:
        first, last, memory, future = waiting.popleft()
        yield (images := future.result())
        while (first := first + len(images)) < last:  # large images: the rest of the task, which nobody waited for
            yield (images := prepare(first, last, memory))
        free.append(memory)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="convert")
    try:
        for first in range(0, len(chosen), _TASK):
            last, memory = min(first + _TASK, len(chosen)), free.popleft()
            waiting.append((first, last, memory, pool.submit(prepare, first, last, memory)))
            if len(waiting) > ahead:
                yield from first_task()
        while waiting:
            yield from first_task()
    finally:
        pool.shutdown(cancel_futures=True)


def identity_of(listing: Listing, chosen: NDArray[np.int64], encoding: Encoding, shard: str) -> dict[str, Any]:
    """Returns all that shapes the file's bytes."""
    return {
        "fingerprint": listing.fingerprint,
        "positions": hashlib.sha256(np.ascontiguousarray(chosen, "<i8").tobytes()).hexdigest(),
        "parameters": {
            **asdict(encoding),
            "filter": "LANCZOS",
            "shard": shard or None,
            "flat": not listing.classes,
        },
        "versions": dict(versions()),
    }


@cache
def versions() -> dict[str, str]:
    """Returns the versions of whatever shapes the bytes; another one may encode differently."""
    found = {name: _version(name) for name in ("pillow", "numpy", "debiaspl")}
    try:
        system = turbojpeg.version()
    except MissingDependency:  # only those who decode need it
        system = "not installed"
    return {
        **found,
        "libjpeg-turbo (Pillow's own)": features.version("libjpeg_turbo") or "none",
        "libjpeg-turbo (system)": system,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # ours, run from a checkout
        return "not installed"


def facts(classes: Sequence[str], listed: int, asked: int) -> dict[str, Any]:
    """Returns what the sidecar says besides the identity and what the session counts."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"listed": listed, "asked": asked, "date": date, "classes": list(classes)}


def report(beton: Path, sidecar: Sidecar, asked: int, seconds: float) -> None:
    """Prints the table at the end: the status of all files, and the notes on some."""
    statuses = {words: count for words, count in sidecar["fates"].items() if count}
    rows = [(words, "", count) for words, count in statuses.items()] + kinds_of_notes(Path(f"{beton}{FILES}"))
    console.say(
        f"{readable(beton)}: {sidecar['count']} of {asked} images, {sidecar['bytes'] / 2**20:,.1f} MiB, "
        f"{seconds:,.1f} s"
    )
    for words, kind, count in rows:
        console.say(f"  {count:>9,}  {words}{f': {kind}' if kind else ''}")
    if any(kind for _, kind, _ in rows):
        console.say(f"  By name in {readable(beton)}{FILES}")


def kinds_of_notes(files: Path) -> list[tuple[str, str, int]]:
    """Returns (status, kind of note, how many files) of the list of files with notes."""
    kinds: Counter[tuple[str, str]] = Counter()
    with files.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        for row in csv.DictReader(file):
            for note in row["reason"].split("; "):
                kinds[row["fate"], readable(note.partition(": ")[0])] += 1
    return [(status, kind, count) for (status, kind), count in sorted(kinds.items())]
