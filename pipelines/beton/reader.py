"""A .beton file opened for reading, and checked against the listing that it was made of."""

import shlex
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.beton.decode_and_cut import Stored
from pipelines.beton.format import (
    ALLOC_TABLE_TYPE,
    JPEG,
    LONGEST_SIDE,
    LONGEST_START,
    PLANES,
    RAW,
    bytes_of,
    columns,
    layout_of,
    read_tables,
    rows_and_table,
)
from pipelines.beton.sidecar import read_sidecar, reading_in, sidecar_path
from pipelines.beton.writer import tables_digest
from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.samples.image_header import MOST_PIXELS
from pipelines.samples.listing import Listing


class Beton(NamedTuple):
    """A .beton file opened for reading; its arrays are in the order of their indices, not of the file's own rows."""

    path: Path
    content: NDArray[np.uint8]  # [bytes] the file, mapped read-only
    index: NDArray[np.int64]  # type: ignore[assignment]  # [n] each sample's, ascending; not all need to be there
    stored: Stored  # [n]
    label: NDArray[np.int64]  # [n]


def open_beton(path: Path) -> Beton:
    """Returns the opened file.

    Raises DataError where it is cut short, is not a .beton, or has other fields than the converter writes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(LONGEST_START)
    try:
        rows, table = rows_and_table(start)
    except ValueError as error:
        raise DataError(f"{readable(path)} is cut short: it has only {size} bytes.") from error
    try:
        if not 0 < table <= size - rows * ALLOC_TABLE_TYPE.itemsize:  # the table ends the file: a cut is seen there
            raise DataError(f"its {size} bytes end before its table of images does, so it is cut short")
        layout = layout_of(start)
        if rows > (size - layout.start) // layout.metadata.itemsize:
            raise DataError("it ends before its metadata does, so it is cut short")
        metadata, allocations = read_tables(path, layout)
        by_name = columns(metadata, layout)
        order = np.argsort(by_name["index"])
        index = by_name["index"][order]
        if rows == 0 or index[0] < 0 or not (index[1:] > index[:-1]).all():
            raise DataError("its index field does not hold indices of a listing, each once")
        stored = _stored({name: column[order] for name, column in by_name.items()}, allocations, table)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{readable(path)} cannot be used: {error}.") from error
    return Beton(path, np.memmap(path, np.uint8, "r"), index, stored, by_name["label"][order])


def _stored(rows: dict[str, NDArray[Any]], allocations: NDArray[np.void], end: int) -> Stored:
    """Returns where each row's bytes lie, which end before byte ``end``, and what they are.

    Raises DataError for whatever would make the compiled code read anything else than a picture of the stated size.
    """
    image = rows["image"]
    of_images = "kind" not in rows
    start = image["data_ptr" if of_images else "ptr"]
    kind, height, width = (
        (image["mode"], image["height"], image["width"]) if of_images else (rows["kind"], rows["height"], rows["width"])
    )
    by_address = np.sort(allocations, order="ptr")
    known = by_address[np.minimum(np.searchsorted(by_address["ptr"], start), len(by_address) - 1)]
    length = known["size"]
    if (known["ptr"] != start).any() or (start > end).any() or (length > end - start).any():  # unsigned: no sum wraps
        raise DataError("it lacks some of the images that it lists")
    if not of_images and (image["size"] != length).any():
        raise DataError("its tables do not agree on the size of some images")
    if not np.isin(kind, [JPEG, RAW] if of_images else [JPEG, RAW, *PLANES.values()]).all():
        raise DataError("some of its images are of no known kind")
    if not ((np.minimum(height, width) > 0) & (np.maximum(height, width) <= LONGEST_SIDE)).all():
        raise DataError("some of its images state a size that no image has")
    height, width, length = height.astype(np.int32), width.astype(np.int32), length.astype(np.int64)
    if (height.astype(np.int64) * width > MOST_PIXELS).any():
        raise DataError(f"some of its images state more than {MOST_PIXELS:,} pixels")
    if ((kind != JPEG) & (bytes_of(kind, height, width) != length)).any():
        raise DataError("some of its images do not have the size that they state")
    return Stored(start.astype(np.int64), length, height, width, kind.astype(np.uint8))


def left_out(beton: Path) -> dict[int, str]:
    """Returns index → reason of the files that the converter skipped; empty where there is no sidecar."""
    stated = read_sidecar(beton)["left_out"] if sidecar_path(beton).is_file() else []
    return {index: reason for index, _, reason in stated}


def beton_of(listing: Listing, path: Path | None) -> Beton:
    """Returns the opened .beton. Raises DataError where it is not that of ``listing``, as far as can be told."""
    root = listing.root
    command = f"python -m debiaspl convert --data {shlex.quote(str(root.parent))} --split {root.name}"
    command += "" if listing.classes else " --flat"
    command += listing.reading.flags
    if path is None or not path.is_file():
        missing = f"There is no file {path}." if path else "The ffcv pipeline reads a .beton file, but none is named."
        raise DataError(f"{missing} Make it with: {command}")
    sidecar = sidecar_path(path)
    try:
        beton = open_beton(path)
        if sidecar.is_file():
            stated = read_sidecar(path)
            if stated["bytes"] != len(beton.content):
                raise DataError(
                    f"{readable(path)} has {len(beton.content)} bytes, but {readable(sidecar)} says {stated['bytes']}."
                )
            if stated["fingerprint"] != listing.fingerprint:
                raise DataError(f"{readable(path)} was made from other files than those in {readable(root)}.")
            if (made := reading_in(stated)) != listing.reading:
                raise DataError(
                    f"{readable(path)} was converted with{made.flags or ' neither --alpha nor --exif'}, but its images "
                    f"are to be read as with{listing.reading.flags or ' neither of them'}."
                )
            if stated["tables_sha256"] != tables_digest(path):
                raise DataError(f"The tables of {readable(path)} are damaged: they are not those that were converted.")
        else:
            # Still usable (only the .beton was copied, say), but two listings can agree in what is left to compare.
            names = readable(sidecar), readable(path)
            warnings.warn("{} is missing: {} is compared by its count and labels only.".format(*names), stacklevel=3)
        if len(beton.label) > len(listing) or beton.index[-1] >= len(listing):
            raise DataError(
                f"{readable(path)} holds {len(beton.label)} images, but {readable(root)} has {len(listing)}."
            )
        if not _same_labels(beton, listing):
            raise DataError(f"{readable(path)} has other labels than the folders of {readable(root)}.")
    except DataError as error:
        raise DataError(f"{error} Convert again: {command}") from error
    return beton


def _same_labels(beton: Beton, listing: Listing) -> bool:
    """Whether the labels agree, as far as can be told: of labels that are withheld only all have a digest."""
    if listing.withheld:
        return len(beton.label) < len(listing) or listing.has_labels(beton.label)
    return np.array_equal(beton.label, listing.labels[beton.index])
