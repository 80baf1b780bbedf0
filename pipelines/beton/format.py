"""FFCV's file format, as far as we use it: three fields, and where the tables lie. Needs numpy alone.

ffcv itself is not imported: that takes longer than importing PyTorch, because it compiles code at each import. A test
compares what stands here with ffcv's own types.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 2
"""The version of the format that FFCV 1 writes and reads."""
HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
"""How a file begins; a descriptor for each field follows, then the metadata."""
DESCRIPTOR = np.dtype([("type_id", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", (1024,)))], align=True)
"""A field's type and name; our types have no arguments."""
ALLOC_TABLE_TYPE = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
"""One row of the table of samples' bytes, which ends the file."""
INTEGER, IMAGE = 1, 2
"""FFCV's numbers for its IntField and RGBImageField."""
FIELDS = {"image": IMAGE, "label": INTEGER, "index": INTEGER}
"""Name → number of the type, in the order in which a row has them."""
_COLUMNS: dict[int, np.dtype[Any]] = {
    INTEGER: np.dtype("<i8"),
    IMAGE: np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")]),
}
JPEG, RAW = 0, 1
"""What the image field's mode says of a row's bytes."""
METADATA: np.dtype[np.void] = np.dtype([("", _COLUMNS[number]) for number in FIELDS.values()], align=True)
"""One row of the table that lies before the samples."""
METADATA_START: int = HEADER.itemsize + len(FIELDS) * DESCRIPTOR.itemsize
"""Byte at which that table begins; the allocation table ends the file."""


def header(rows: int, page: int, table: int) -> bytes:
    """Returns the bytes before the metadata, from which FFCV's own Reader knows the fields.

    ``page`` is in bytes; ``table`` is the byte at which the allocation table begins.
    """
    start = np.zeros(1, HEADER)
    start["version"], start["num_fields"], start["page_size"] = VERSION, len(FIELDS), page
    start["num_samples"], start["alloc_table_ptr"] = rows, table
    descriptors = np.zeros(len(FIELDS), DESCRIPTOR)
    for descriptor, (name, number) in zip(descriptors, FIELDS.items(), strict=True):
        descriptor["type_id"] = number
        descriptor["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
    return start.tobytes() + descriptors.tobytes()


def rows_and_table(content: bytes | memoryview) -> tuple[int, int]:
    """Returns a file's number of rows and the byte at which its allocation table begins.

    ``content`` begins as the file does; raises ValueError where it is too short for a header.
    """
    start = np.frombuffer(content, HEADER, count=1)[0]
    return int(start["num_samples"]), int(start["alloc_table_ptr"])


def read_tables(path: Path) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Returns a file's metadata, one row per sample, and its allocation table.

    Raises ValueError where the file is of another version, has other fields or ends before its tables do.
    """
    start = np.fromfile(path, HEADER, count=1)[0]
    if start["version"] != VERSION:
        raise ValueError(f"it is of version {start['version']} of the format, not {VERSION}")
    descriptors = np.fromfile(path, DESCRIPTOR, count=int(start["num_fields"]), offset=HEADER.itemsize)
    names = [each["name"].tobytes().split(b"\0")[0].decode(errors="replace") for each in descriptors]
    if dict(zip(names, descriptors["type_id"].tolist(), strict=True)) != FIELDS or names != list(FIELDS):
        raise ValueError(f"it has the fields {', '.join(names)}, not {', '.join(FIELDS)}")
    metadata = np.fromfile(path, METADATA, count=int(start["num_samples"]), offset=METADATA_START)
    if len(metadata) != start["num_samples"]:
        raise ValueError("it ends before its metadata does, so it is cut short")
    return metadata, np.fromfile(path, ALLOC_TABLE_TYPE, offset=int(start["alloc_table_ptr"]))


def columns(metadata: NDArray[np.void]) -> dict[str, NDArray[Any]]:
    """Returns views of a metadata table's columns by their fields' names, to be read or filled."""
    return {name: metadata[column] for name, column in zip(FIELDS, metadata.dtype.names or (), strict=True)}
