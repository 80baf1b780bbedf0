"""A .beton's bytes in this process's own memory, where they fit: read once, in the background, in order.

The page cache serves as well, and all processes of a machine at once, but the kernel drops its pages when it likes (a
container or job near its limit, another one that reads large files), and they come from the disk or the network again.
A copy stays. While it is made, and where it cannot be, the mapped file serves: the same bytes.
"""

import os
import threading
import warnings
import weakref
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.beton.memory import available_memory
from pipelines.errors import DataError
from pipelines.names import readable

_BLOCK = 1 << 24
_SHARE = 0.5
"""Of the available memory, what 'auto' takes for the copies of all processes; the rest is for what comes later."""


class BetonCopy:
    """Holds one process's copy of a file; the last reference gives it back and stops its reader."""

    def __init__(self, path: Path, size: int) -> None:
        content = np.empty(size, np.uint8)  # no memory is taken before it is written
        self._content = content.view()
        self._content.flags.writeable = False  # like a map: compiled code takes either, without being compiled again
        self._whole, stop = threading.Event(), threading.Event()
        reader = threading.Thread(target=_read, args=(path, content, self._whole, stop), name="beton-copy", daemon=True)
        weakref.finalize(self, _end, reader, stop)
        reader.start()

    @property
    def promised(self) -> int:
        """Bytes that are yet to be read, which the system still counts as available."""
        return 0 if self._whole.is_set() else len(self._content)

    @property
    def content(self) -> NDArray[np.uint8] | None:
        """The file's bytes, once they are all there."""
        return self._content if self._whole.is_set() else None


def copy_of(path: Path, cache: Literal["auto", "page", "memory"], processes: int) -> BetonCopy | None:
    """Returns the copy that this process's sources share, or None where the page cache is to serve.

    'auto' asks for the memory of as many copies as the machine has ``processes``, 'memory' for this process' own.

    Raises DataError where a copy is wanted and does not fit the memory.
    """
    if cache == "page":
        return None
    state = path.stat()
    key = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
    with _lock:
        if (copy := _copies.get(key)) is not None:
            return copy
        wanted, available = state.st_size + sum(copy.promised for copy in _copies.values()), available_memory()
        if cache == "auto" and processes * wanted > _SHARE * available:
            return None
        try:
            if wanted > available:
                raise MemoryError
            copy = _copies[key] = BetonCopy(path, state.st_size)
        except MemoryError:
            if cache == "auto":
                return None
            raise DataError(
                f"{readable(path)} has {state.st_size / 2**30:.1f} GiB, but only {available / 2**30:.1f} GiB "
                "of memory are "
                "available. Use ffcv.cache=page, or auto."
            ) from None
        return copy


_copies: weakref.WeakValueDictionary[tuple[int, ...], BetonCopy] = weakref.WeakValueDictionary()
"""The labeled and the unlabeled source read one file: they share its copy, and nobody else keeps it."""
_lock = threading.Lock()


def _read(path: Path, content: NDArray[np.uint8], whole: threading.Event, stop: threading.Event) -> None:
    at = 0
    try:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while at < len(content) and not stop.is_set():
                if not (count := file.readinto(content[at : at + _BLOCK].data)):
                    raise OSError(f"it ends at byte {at} of {len(content)}")
                at += count
    except OSError as error:
        warnings.warn(f"{readable(path)} is not kept in memory: {error}. Its page cache serves.", stacklevel=1)
        return
    if at == len(content):
        whole.set()


def _end(reader: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    if threading.current_thread() is not reader:  # garbage is collected on any thread
        reader.join()
