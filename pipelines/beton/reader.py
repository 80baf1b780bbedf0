"""A .beton file opened for reading, and checked against the listing that it was made of."""

import json
import shlex
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.beton.decode_and_cut import Stored
from pipelines.beton.format import ALLOC_TABLE_TYPE, HeaderType, IntField, Reader, RGBImageField
from pipelines.errors import DataError
from pipelines.samples.listing import Listing

_FIELDS = {"image": RGBImageField, "label": IntField, "index": IntField}
_RAW = 1
"""The image field's mode where it holds pixels; where it holds a JPEG, the mode is 0."""


class Beton(NamedTuple):
    """A .beton file opened for reading; its arrays are in the order of their indices, not of the file's own rows."""

    path: Path
    content: NDArray[np.uint8]  # [bytes] the file, mapped read-only
    index: NDArray[np.int64]  # type: ignore[assignment]  # [n] each sample's, ascending; not all need to be there
    stored: Stored  # [n]
    label: NDArray[np.int64]  # [n]


def sidecar_path(beton: Path) -> Path:
    """Where the converter says what it made the file of."""
    return beton.with_name(f"{beton.name}.json")


def open_beton(path: Path) -> Beton:
    """Raises DataError where the file is cut short, is not a .beton, or has other fields than the converter writes."""
    size = path.stat().st_size
    header = np.fromfile(path, HeaderType, count=1)
    if not len(header):
        raise DataError(f"{path} is cut short: it has only {size} bytes.")
    rows, table = int(header[0]["num_samples"]), int(header[0]["alloc_table_ptr"])
    try:
        if not 0 < table <= size - rows * ALLOC_TABLE_TYPE.itemsize:  # the table ends the file: a cut is seen there
            raise DataError(f"its {size} bytes end before its table of images does, so it is cut short")
        reader = Reader(str(path))
        found = {name: type(handler) for name, handler in reader.handlers.items()}
        if found != _FIELDS:
            raise DataError(f"it has the fields {', '.join(found)}, not image, label, index")
        metadata = {name: reader.metadata[f"f{place}"] for place, name in enumerate(found)}
        order = np.argsort(metadata["index"])
        index = metadata["index"][order]
        if rows == 0 or index[0] < 0 or not (np.diff(index) > 0).all():
            raise DataError("its index field does not hold indices of a listing, each once")
        image = metadata["image"][order]
        by_address = np.sort(reader.alloc_table, order="ptr")
        at = np.searchsorted(by_address["ptr"], image["data_ptr"])
        known = by_address[np.minimum(at, len(by_address) - 1)]
        if np.any(known["ptr"] != image["data_ptr"]) or np.any(known["ptr"] + known["size"] > table):
            raise DataError("it lacks some of the images that it lists")
        raw = image["mode"] == _RAW
        height, width = image["height"].astype(np.int32), image["width"].astype(np.int32)
        if np.any(raw & (known["size"] != 3 * height.astype(np.uint64) * width)):
            raise DataError("some of its raw images do not have the size that it states")
    except (DataError, ValueError, AssertionError, LookupError, OverflowError) as error:  # what ffcv's Reader raises
        raise DataError(f"{path} cannot be used: {error}.") from error
    stored = Stored(known["ptr"].astype(np.int64), known["size"].astype(np.int64), height, width, raw)
    return Beton(path, np.memmap(path, np.uint8, "r"), index, stored, metadata["label"][order])


def left_out(beton: Path) -> dict[int, str]:
    """Returns the indices of the files that the converter could not store, with the reason; none where not known."""
    sidecar = sidecar_path(beton)
    stated = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
    return {index: reason for index, _, reason in stated.get("left_out", ())}


def beton_of(listing: Listing, path: Path | None) -> Beton:
    """The opened .beton, which is that of ``listing`` as far as can be told. Raises DataError where it is not."""
    root = listing.root
    command = f"python tools/convert_imagenet_to_ffcv.py --data {shlex.quote(str(root.parent))} --split {root.name}"
    command += "" if listing.classes else " --flat"
    if path is None or not path.is_file():
        missing = f"There is no file {path}." if path else "The ffcv pipeline reads a .beton file, but none is named."
        raise DataError(f"{missing} Make it with: {command}")
    sidecar = sidecar_path(path)
    try:
        beton = open_beton(path)
        if sidecar.is_file():
            try:
                stated = json.loads(sidecar.read_text())
                fingerprint, size = stated["fingerprint"], stated["bytes"]
            except (ValueError, LookupError, TypeError) as error:
                raise DataError(f"{sidecar} is not what the converter writes: {error!r}.") from error
            if size != len(beton.content):
                raise DataError(f"{path} has {len(beton.content)} bytes, but {sidecar} says {size}.")
            if fingerprint != listing.fingerprint:
                raise DataError(f"{path} was made from other files than those in {root}.")
        else:
            # Still usable (only the .beton was copied, say), but two listings can agree in what is left to compare.
            warnings.warn(f"{sidecar} is missing: {path} is compared by its count and labels only.", stacklevel=3)
        if len(beton.label) > len(listing) or beton.index[-1] >= len(listing):
            raise DataError(f"{path} holds {len(beton.label)} images, but {root} has {len(listing)}.")
        if not _same_labels(beton, listing):
            raise DataError(f"{path} has other labels than the folders of {root}.")
    except DataError as error:
        raise DataError(f"{error} Convert again: {command}") from error
    return beton


def _same_labels(beton: Beton, listing: Listing) -> bool:
    """As far as can be told: a listing whose labels are withheld has a digest of all of them, of no subset."""
    if listing.withheld:
        return len(beton.label) < len(listing) or listing.has_labels(beton.label)
    return np.array_equal(beton.label, listing.labels[beton.index])
