"""FFCV's file format, as far as we write it: three fields, and where the tables lie. The one file that imports ffcv."""

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

# Importing ffcv sets the thread counts of torch and numba to 1, which nobody asked for.
_threads_before = torch.get_num_threads(), numba.get_num_threads()
from ffcv.fields import IntField, RGBImageField  # noqa: E402
from ffcv.fields.rgb_image import IMAGE_MODES  # noqa: E402
from ffcv.reader import Reader as Reader  # noqa: E402
from ffcv.types import ALLOC_TABLE_TYPE as ALLOC_TABLE_TYPE  # noqa: E402
from ffcv.types import CURRENT_VERSION, TYPE_ID_HANDLER, FieldDescType, HeaderType, get_metadata_type  # noqa: E402

torch.set_num_threads(_threads_before[0])
numba.set_num_threads(_threads_before[1])

FIELDS = {"image": RGBImageField, "label": IntField, "index": IntField}
"""Name → FFCV's type, in the order in which a row has them."""
JPEG, RAW = IMAGE_MODES["jpg"], IMAGE_MODES["raw"]
"""What the image field's mode says of a row's bytes."""
METADATA: np.dtype[np.void] = get_metadata_type([field() for field in FIELDS.values()])
"""One row of the table that lies before the samples."""
METADATA_START: int = HeaderType.itemsize + len(FIELDS) * FieldDescType.itemsize
"""Byte at which that table begins; the allocation table ends the file."""


def header(rows: int, page: int, table: int) -> bytes:
    """Returns the bytes before the metadata, made of FFCV's own types, so that its Reader knows the fields.

    ``page`` is in bytes; ``table`` is the byte at which the allocation table begins.
    """
    start = np.zeros(1, HeaderType)
    start["version"], start["num_fields"], start["page_size"] = CURRENT_VERSION, len(FIELDS), page
    start["num_samples"], start["alloc_table_ptr"] = rows, table
    number = {handler: number for number, handler in TYPE_ID_HANDLER.items()}
    descriptors = np.zeros(len(FIELDS), FieldDescType)
    for descriptor, (name, field) in zip(descriptors, FIELDS.items(), strict=True):
        descriptor["type_id"] = number[field]
        descriptor["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
        descriptor["arguments"] = field().to_binary()[0]
    return start.tobytes() + descriptors.tobytes()


def rows_and_table(content: bytes | memoryview) -> tuple[int, int]:
    """Returns a file's number of rows and the byte at which its allocation table begins.

    ``content`` begins as the file does; raises ValueError where it is too short for a header.
    """
    start = np.frombuffer(content, HeaderType, count=1)[0]
    return int(start["num_samples"]), int(start["alloc_table_ptr"])


def columns(metadata: NDArray[np.void]) -> dict[str, NDArray[Any]]:
    """Returns views of a metadata table's columns by their fields' names, to be read or filled."""
    return {name: metadata[column] for name, column in zip(FIELDS, metadata.dtype.names or (), strict=True)}
