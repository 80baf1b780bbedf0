"""Compares a finished file with its images: every byte of it is either in a sample, in a table, or zero."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipelines import console
from pipelines.beton.format import LONGEST_START, layout_of, rows_and_table
from pipelines.beton.one_image import digest
from pipelines.beton.session import RECORDS
from pipelines.beton.sidecar import read_sidecar
from pipelines.beton.status import Status
from pipelines.beton.writer import RECORD, tables_digest
from pipelines.errors import DataError, first_few
from pipelines.names import readable
from pipelines.samples.listing import Listing

_CHUNK = 64
_NAMED = 10


def read_records(beton: Path) -> NDArray[np.void]:
    """Returns one row per sample, mapped, not read. Raises DataError for a file that the converter did not write."""
    path = Path(f"{beton}{RECORDS}")
    try:
        records: NDArray[np.void] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{readable(path)} cannot be read ({error}): without it {readable(beton)} cannot be checked."
        ) from error
    if records.dtype != RECORD:
        raise DataError(f"{readable(path)} is not what this converter writes. Convert again.")
    return records


def verify(listing: Listing, beton: Path, workers: int) -> None:
    """Checks a finished file against its images.

    Raises DataError that names what has changed: samples in the file, images on the disk, tables, or padding.
    """
    if not beton.is_file():
        raise DataError(
            f"There is no file {readable(beton)} to verify. Make it first: the same command without --verify."
        )
    sidecar, records = read_sidecar(beton), read_records(beton)
    if sidecar["fingerprint"] != listing.fingerprint:
        raise DataError(
            f"{readable(beton)} was made from other files than those in {readable(listing.root)}. Convert again."
        )
    content = np.memmap(beton, np.uint8, "r")
    problems = []
    if len(content) != sidecar["bytes"]:
        problems.append(f"it has {len(content)} bytes, but should have {sidecar['bytes']}")
    elif _tables_digest(beton) != sidecar["tables_sha256"]:
        problems.append("its tables have changed")
    end = int(records["ptr"][-1] + records["size"][-1]) if len(records) else 0
    if end > len(content):
        raise DataError(f"{readable(beton)} is damaged: {problems[0]}. Convert again.")
    with (
        ThreadPoolExecutor(workers, thread_name_prefix="verify") as pool,
        tqdm(total=len(records), desc=f"verifying {readable(beton.name)}", unit=" images", disable=None) as bar,
    ):
        chunks = (records[first : first + _CHUNK] for first in range(0, len(records), _CHUNK))
        for found in pool.map(lambda rows: list(_changed(listing, content, rows)), chunks):
            problems += found
            bar.update(min(_CHUNK, len(records) - bar.n))
    problems += _gaps(content, records)
    if problems:
        named = first_few(problems, _NAMED, "\n  ")
        raise DataError(f"{readable(beton)} is not what was converted:\n  {named}\nConvert again.")
    console.say(f"{readable(beton)}: {len(records)} images and all tables are as they were converted")


def _tables_digest(beton: Path) -> str:
    try:
        return tables_digest(beton)
    except (OSError, ValueError, OverflowError, IndexError):  # the header's own numbers are damaged
        return ""


def _changed(listing: Listing, content: NDArray[np.uint8], rows: NDArray[np.void]) -> Iterator[str]:
    for row in rows:
        path, start = listing.path(int(row["position"])), int(row["ptr"])
        name = readable(path)
        stored = content[start : start + int(row["size"])].data
        whole = digest(stored) == row["digest"]
        if not whole:
            yield f"sample {row['position']} ({name}): its bytes in the file have changed"
        try:
            source = path.read_bytes()
        except OSError as error:
            yield f"sample {row['position']}: {name} cannot be read any more ({error.strerror})"
            continue
        # The bytes themselves where they should be the same, because a CRC-32 is no proof.
        if digest(source) != row["source"] or (whole and row["fate"] == Status.KEPT and source != stored):
            yield f"sample {row['position']}: {name} is not the file that was converted"


def _gaps(content: NDArray[np.uint8], records: NDArray[np.void]) -> Iterator[str]:
    """Checks that between the metadata, the samples and the last page's end there are zeros."""
    start = content[:LONGEST_START].tobytes()
    try:
        layout = layout_of(start)
    except ValueError:  # then its tables have changed, which is said already
        return
    before, block = layout.start + len(records) * layout.metadata.itemsize, 1 << 16
    for first in range(0, len(records), block):
        rows = records[first : first + block]
        starts, ends = rows["ptr"].astype(np.int64), (rows["ptr"] + rows["size"]).astype(np.int64)
        begins = np.concatenate([[before], ends[:-1]])
        for at in np.flatnonzero(starts > begins):
            if content[begins[at] : starts[at]].any():
                yield f"the padding before byte {starts[at]} has changed"
        before = int(ends[-1])
    _, table = rows_and_table(start)
    if before < table <= len(content) and content[before:table].any():
        yield "the padding before the last table has changed"
