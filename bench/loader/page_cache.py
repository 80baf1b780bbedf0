"""Files that the kernel holds in memory: ask it to forget some, and how much of them it still has."""

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import DataError

_STILL_COLD = 0.02
"""Share of a set of files that may be left in memory."""


def drop(paths: Sequence[Path]) -> None:
    """Makes the next reading of the files come from the disk; nobody may have them mapped.

    Raises DataError where they stay in memory all the same: on some file systems (tmpfs) they live nowhere else.
    """
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # what is not on the disk yet cannot be forgotten
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    if (left := resident(paths)) > _STILL_COLD:
        raise DataError(f"{left:.0%} of the files stay in the page cache: a cold start cannot be measured here.")


def resident(paths: Sequence[Path]) -> float:
    """Returns the share of the files' pages that are in memory."""
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    held = pages = 0
    for path in paths:
        size = path.stat().st_size
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as content,
        ):
            flags = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
            view = (ctypes.c_char * size).from_buffer(content)
            failed = mincore(ctypes.addressof(view), size, flags)
            del view  # or the map could not be closed
            if failed:
                raise OSError(ctypes.get_errno(), "mincore failed", str(path))
        held += sum(flag & 1 for flag in flags.raw)
        pages += len(flags)
    return held / pages
