"""Image sizes from the files' first bytes: nothing is decoded, and what is no image is named with the reason."""

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from pipelines.samples.folder_scan import THREADS

MOST_PIXELS = 178_956_970
"""Pillow refuses to decode more; whatever claims so is refused before anything is decoded."""

_HEAD = 1 << 14
"""Bytes read of each file; Pillow reads on where the header is longer."""
_CHUNK = 256
"""Files per task of a thread."""
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive JPEG: the start-of-frame markers that hold the size."""
_SKIPPED = frozenset({*range(0xE0, 0xF0), 0xDB, 0xC4, 0xDD, 0xFE})
"""Segments that say nothing of the size: APPn, tables, restart interval, comment."""

_Size = tuple[int, int]  # width, height


def read_sizes(root: str, names: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32], dict[int, str]]:
    """Widths and heights [n] of ``root/<name>``, and what is wrong with those that have none (their sizes are 0)."""
    starts = range(0, len(names), _CHUNK)
    found: list[_Size | str] = []
    with (
        ThreadPoolExecutor(THREADS, thread_name_prefix="headers") as pool,
        tqdm(
            desc=f"reading headers in {root.rpartition('/')[2]}",
            total=len(names),
            unit=" images",
            leave=False,
            delay=1,
        ) as bar,
    ):
        for sizes in pool.map(lambda start: _chunk(root, names[start : start + _CHUNK]), starts):
            found += sizes
            bar.update(len(sizes))
    bad = {index: size for index, size in enumerate(found) if isinstance(size, str)}
    flat = chain.from_iterable((0, 0) if isinstance(size, str) else size for size in found)
    widths, heights = np.fromiter(flat, np.int32, 2 * len(found)).reshape(-1, 2).T
    return np.ascontiguousarray(widths), np.ascontiguousarray(heights), bad


def _chunk(root: str, names: Sequence[str]) -> list[_Size | str]:
    return [_size(f"{root}/{name}") for name in names]


def _size(path: str) -> _Size | str:
    """(width, height), or what is wrong with the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # does not wait for the writer of a named pipe
        try:
            head = os.read(descriptor, _HEAD)
        finally:
            os.close(descriptor)
        if not head:
            return "an empty file"
        size = jpeg_size(head)
        if size is None:
            with Image.open(path) as image:
                size = image.size
    except UnidentifiedImageError:
        return "not an image"
    # What Pillow's readers raise on damaged headers
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, zlib.error) as error:
        return (isinstance(error, OSError) and error.strerror) or f"not an image ({error})"
    except Image.DecompressionBombError as error:
        return f"too large to decode ({error})"
    width, height = size
    if width * height > MOST_PIXELS:
        return f"too large to decode ({width} × {height} pixels)"
    return size if width > 0 and height > 0 else f"has no pixels ({width} × {height})"


def jpeg_size(head: bytes) -> _Size | None:
    """(width, height) of a JPEG that begins with ``head``; None where the reader must be Pillow.

    Three times as fast as Pillow, which looks into every segment.
    """
    if head[:3] != b"\xff\xd8\xff":
        return None
    size: _Size | None = None
    at = 2
    while at + 10 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], head[at + 2] << 8 | head[at + 3]
        if marker == 0xDA:  # start of scan: the header is whole
            return size
        if marker in _FRAMES and size is None and head[at + 4] == 8 and head[at + 9] in (1, 3, 4):
            size = head[at + 7] << 8 | head[at + 8], head[at + 5] << 8 | head[at + 6]
        elif marker not in _SKIPPED:
            return None
        if length < 2:
            return None
        at += 2 + length
    return None
