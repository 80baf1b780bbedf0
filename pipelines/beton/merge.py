"""Joins the parts that several machines made into one file, whose bytes are those of one machine's conversion."""

import csv
import hashlib
import heapq
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipelines import console
from pipelines.beton.convert import facts, report
from pipelines.beton.one_image import StoredImage, digest
from pipelines.beton.session import FILES, Session, finished, unwritable
from pipelines.beton.sidecar import Sidecar, differences, identity_in, read_sidecar
from pipelines.beton.status import Status
from pipelines.beton.verify import read_records
from pipelines.errors import DataError
from pipelines.names import readable

_BATCH = 64
"""Samples in memory at a time."""


def merge(beton: Path, resume: bool) -> None:
    """Writes ``beton`` from its parts, which stay. Raises DataError where one is missing, damaged, or of other data."""
    parts = _parts(beton)
    sidecars = [read_sidecar(part) for part in parts]
    for part, sidecar in zip(parts, sidecars, strict=True):
        if other := differences(_common(sidecars[0]), _common(sidecar)):
            raise DataError(f"{readable(part)} does not fit {readable(parts[0])}: {other}. Convert the parts alike.")
    indices = np.concatenate([_indices(*each) for each in zip(parts, sidecars, strict=True)])
    if len(indices) and not (np.diff(indices) > 0).all():
        raise DataError(
            f"The parts of {readable(beton)} hold samples twice, or in another order: they are of different splits."
        )
    shared = _common(sidecars[0])
    identity = {**shared, "positions": hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()}
    if resume and finished(beton, identity):
        console.say(f"{readable(beton)} is complete already.")
        return
    begin = time.monotonic()
    try:
        session = Session(beton, len(indices), identity, resume)
    except OSError as error:
        raise unwritable(beton, error) from error
    try:
        with tqdm(
            total=len(indices),
            initial=session.done,
            desc=f"merging {readable(beton.name)}",
            unit=" images",
            disable=None,
        ) as bar:
            images = islice((each for part in parts for each in _images(part)), session.done, None)
            while batch := list(islice(images, _BATCH)):
                session.add(batch)
                bar.update(len(batch))
        sidecar = session.finish(facts(sidecars[0]["classes"], sidecars[0]["listed"], len(indices)))
    except BaseException as error:
        session.close()
        if not session.committed:
            session.discard()
        if isinstance(error, OSError):
            raise unwritable(beton, error) from error
        raise
    report(beton, sidecar, len(indices), time.monotonic() - begin)


def _parts(beton: Path) -> list[Path]:
    """Returns all parts of one conversion, in order."""
    pattern = re.compile(re.escape(beton.name) + r"\.part-(\d+)-of-(\d+)")
    found = [match for path in beton.parent.glob(f"{beton.name}.part-*") if (match := pattern.fullmatch(path.name))]
    counts = {int(match[2]) for match in found}
    if len(counts) != 1:
        several = f"parts of several conversions, of {sorted(counts)} parts" if counts else "no parts"
        raise DataError(
            f"There are {several} of {readable(beton)}. Make all parts with --shard 1/N … N/N, and no others."
        )
    count, numbers = counts.pop(), {int(match[1]) for match in found}
    if missing := sorted(set(range(1, count + 1)) - numbers):
        raise DataError(
            f"Of the {count} parts of {readable(beton)} there are no {missing}. Copy them to {readable(beton.parent)}."
        )
    return [beton.with_name(f"{beton.name}.part-{number}-of-{count}") for number in range(1, count + 1)]


def _common(sidecar: Sidecar) -> dict[str, Any]:
    """Returns what all parts share: the merged file's identity but for its indices."""
    identity = identity_in(sidecar)
    return {**identity, "positions": None, "parameters": {**identity["parameters"], "shard": None}}


def _indices(part: Path, sidecar: Sidecar) -> NDArray[np.int64]:
    skipped = np.asarray([index for index, _, _ in sidecar["left_out"]], np.int64)
    return np.sort(np.concatenate([read_records(part)["position"], skipped]))


def _images(part: Path) -> Iterator[tuple[StoredImage, str]]:
    """Yields a part's samples, skipped ones too, in listing order; those with a note have their path."""
    noted: dict[int, tuple[str, str]] = {}
    skipped: list[tuple[StoredImage, str]] = []
    # As they are; the list spells them readably.
    paths = {index: path for index, path, _ in read_sidecar(part)["left_out"]}
    with Path(f"{part}{FILES}").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        for row in csv.DictReader(file):
            index = int(row["index"])
            if row["fate"] == Status.SKIPPED.words:
                image = StoredImage(index, -1, Status.SKIPPED, reason=row["reason"])
                skipped.append((image, paths.get(index, row["path"])))
            else:
                noted[index] = row["path"], row["reason"]
    return heapq.merge(_stored(part, noted), skipped, key=lambda each: each[0].index)


def _stored(part: Path, noted: dict[int, tuple[str, str]]) -> Iterator[tuple[StoredImage, str]]:
    with part.open("rb") as file:
        for row in read_records(part):
            index, size = int(row["position"]), int(row["size"])
            file.seek(int(row["ptr"]))
            content = file.read(size)
            if digest(content) != row["digest"]:
                raise DataError(
                    f"{readable(part)} is damaged at sample {index}. Copy it again, or convert that part again."
                )
            path, reason = noted.get(index, ("", ""))
            place = Status(int(row["fate"])), content, int(row["width"]), int(row["height"])
            digests = int(row["digest"]), int(row["source"])
            yield StoredImage(index, int(row["label"]), *place, *digests, reason), path
