"""FFCV's file format: the types of its tables and fields, and its Reader. The one file that imports ffcv."""

import numba
import torch

# Importing ffcv sets the thread counts of torch and numba to 1, which nobody asked for.
_threads_before = torch.get_num_threads(), numba.get_num_threads()
from ffcv.fields import IntField, RGBImageField  # noqa: E402
from ffcv.reader import Reader  # noqa: E402
from ffcv.types import (  # noqa: E402
    ALLOC_TABLE_TYPE,
    CURRENT_VERSION,
    TYPE_ID_HANDLER,
    FieldDescType,
    HeaderType,
    get_metadata_type,
)

torch.set_num_threads(_threads_before[0])
numba.set_num_threads(_threads_before[1])

__all__ = [
    "ALLOC_TABLE_TYPE",
    "CURRENT_VERSION",
    "TYPE_ID_HANDLER",
    "FieldDescType",
    "HeaderType",
    "IntField",
    "RGBImageField",
    "Reader",
    "get_metadata_type",
]
