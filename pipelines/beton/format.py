"""FFCV's file format, as far as we use it: two sets of fields, and where the tables lie. Needs numpy alone.

ffcv itself is not imported: that takes longer than importing PyTorch, because it compiles code at each import. A test
compares what stands here with ffcv's own types.
"""

from pathlib import Path
from typing import Any, NamedTuple

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
INTEGER, IMAGE, BYTES = 1, 2, 3
"""FFCV's numbers for its IntField, RGBImageField and BytesField."""
_COLUMNS: dict[int, np.dtype[Any]] = {
    INTEGER: np.dtype("<i8"),
    IMAGE: np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")]),
    BYTES: np.dtype([("ptr", "<u8"), ("size", "<u8")]),
}
JPEG, RAW = 0, 1
"""Kinds of a sample's bytes, which the image field's mode states with the same numbers: a JPEG, or RGB pixels."""
GREY, FULL, HALF_COLUMNS, QUARTER, HALF_ROWS = 2, 3, 4, 5, 6
"""Further kinds, in files of planes: a JPEG's planes, with chroma of none, all, or half of the columns and rows."""
PLANES = {"grey": GREY, "4:4:4": FULL, "4:2:2": HALF_COLUMNS, "4:2:0": QUARTER, "4:4:0": HALF_ROWS}
"""The usual name of a subsampling → the kind."""
_HALVED_ROWS, _HALVED_COLUMNS = (QUARTER, HALF_ROWS), (QUARTER, HALF_COLUMNS)
LONGEST_SIDE = 65535
"""The image field has 16 bits for a side; files of planes hold no longer ones either."""


class Layout(NamedTuple):
    """Holds a file's fields, and what follows from them."""

    fields: dict[str, int]  # name → number of the type, in the order in which a row has them
    metadata: np.dtype[np.void]  # one row of the table that lies before the samples
    start: int  # byte at which that table begins; the allocation table ends the file


def _layout(fields: dict[str, int]) -> Layout:
    metadata: np.dtype[np.void] = np.dtype([("", _COLUMNS[number]) for number in fields.values()], align=True)
    return Layout(fields, metadata, HEADER.itemsize + len(fields) * DESCRIPTOR.itemsize)


OF_IMAGES = _layout({"image": IMAGE, "label": INTEGER, "index": INTEGER})
"""Files of JPEGs and pixels, which FFCV's own image decoders read."""
OF_PLANES = _layout(
    {"image": BYTES, "label": INTEGER, "index": INTEGER, "kind": INTEGER, "width": INTEGER, "height": INTEGER}
)
"""Files that may also hold planes: to FFCV's Loader, bytes and numbers."""
LONGEST_START = OF_PLANES.start
"""Bytes from which any file's layout, number of rows and tables can be told."""


def header(layout: Layout, rows: int, page: int, table: int) -> bytes:
    """Returns the bytes before the metadata, from which FFCV's own Reader knows the fields.

    ``page`` is in bytes; ``table`` is the byte at which the allocation table begins.
    """
    start = np.zeros(1, HEADER)
    start["version"], start["num_fields"], start["page_size"] = VERSION, len(layout.fields), page
    start["num_samples"], start["alloc_table_ptr"] = rows, table
    descriptors = np.zeros(len(layout.fields), DESCRIPTOR)
    for descriptor, (name, number) in zip(descriptors, layout.fields.items(), strict=True):
        descriptor["type_id"] = number
        descriptor["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
    return start.tobytes() + descriptors.tobytes()


def rows_and_table(content: bytes | memoryview) -> tuple[int, int]:
    """Returns a file's number of rows and the byte at which its allocation table begins.

    ``content`` begins as the file does; raises ValueError where it is too short for a header.
    """
    start = np.frombuffer(content, HEADER, count=1)[0]
    return int(start["num_samples"]), int(start["alloc_table_ptr"])


def layout_of(content: bytes | memoryview) -> Layout:
    """Returns the layout of a file that begins with ``content``, of ``LONGEST_START`` bytes or all that there are.

    Raises ValueError where it is of another version, or has other fields than the converter writes.
    """
    start = np.frombuffer(content, HEADER, count=1)[0]
    if start["version"] != VERSION:
        raise ValueError(f"it is of version {start['version']} of the format, not {VERSION}")
    count = min(int(start["num_fields"]), (len(content) - HEADER.itemsize) // DESCRIPTOR.itemsize)
    descriptors = np.frombuffer(content, DESCRIPTOR, count=count, offset=HEADER.itemsize)
    names = [each["name"].tobytes().split(b"\0")[0].decode(errors="replace") for each in descriptors]
    found = list(zip(names, descriptors["type_id"].tolist(), strict=True))
    for layout in (OF_IMAGES, OF_PLANES):
        if found == list(layout.fields.items()) and start["num_fields"] == count:
            return layout
    raise ValueError(f"it has the fields {', '.join(names)}, not {', '.join(OF_IMAGES.fields)}")


def read_tables(path: Path, layout: Layout) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Returns a file's metadata, one row per sample, and its allocation table.

    Raises ValueError where the file ends before its tables do.
    """
    rows, table = rows_and_table(np.fromfile(path, np.uint8, count=HEADER.itemsize).tobytes())
    metadata = np.fromfile(path, layout.metadata, count=rows, offset=layout.start)
    if len(metadata) != rows:
        raise ValueError("it ends before its metadata does, so it is cut short")
    return metadata, np.fromfile(path, ALLOC_TABLE_TYPE, offset=table)


def columns(metadata: NDArray[np.void], layout: Layout) -> dict[str, NDArray[Any]]:
    """Returns views of a metadata table's columns by their fields' names, to be read or filled."""
    return {name: metadata[column] for name, column in zip(layout.fields, metadata.dtype.names or (), strict=True)}


def divisors(kind: int) -> tuple[int, int]:
    """Returns how many rows and how many columns of a picture share one of its chroma planes', each 1 or 2."""
    return 1 + (kind in _HALVED_ROWS), 1 + (kind in _HALVED_COLUMNS)


def bytes_of(kind: NDArray[Any] | int, height: NDArray[Any] | int, width: NDArray[Any] | int) -> NDArray[np.int64]:
    """Returns how many bytes pixels or planes of a kind take, int64 of the arguments' shape; they are in pixels.

    A JPEG's bytes cannot be told from its size; what is returned for one means nothing.
    """
    height, width = np.asarray(height, np.int64), np.asarray(width, np.int64)
    fewer_rows, fewer_columns = (np.isin(kind, halved).astype(np.int64) for halved in (_HALVED_ROWS, _HALVED_COLUMNS))
    chroma = ((height + fewer_rows) >> fewer_rows) * ((width + fewer_columns) >> fewer_columns)
    planes = height * width + np.where(np.equal(kind, GREY), 0, 2 * chroma)
    return np.where(np.equal(kind, RAW), 3 * height * width, planes)
