"""The sizes of image files, from their headers: many at a time, and without decoding.

Pillow takes many times as long for a JPEG's header, because it looks into every segment: it is asked only where a file
is no JPEG, or an unusual one.
"""

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from pipelines.names import readable
from pipelines.samples.folder_scan import THREADS
from pipelines.samples.image_header import (
    HEAD,
    MOST_PIXELS,
    Size,
    jpeg_header,
    jpeg_size,
    may_be_turned,
    too_few_bytes,
)
from pipelines.samples.reading import ON_THEIR_SIDE, orientation_of

_CHUNK = 256
"""Files per task of a thread."""


def read_sizes(
    root: str, names: Sequence[str], *, turned: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.int32], dict[int, str]]:
    """Returns widths and heights [n] of ``root/<name>``, and what is wrong with the files whose size is 0.

    ``turned``: the sizes are those after turning the images as their EXIF asks for.
    """
    starts = range(0, len(names), _CHUNK)
    found: list[Size | str] = []
    with (
        ThreadPoolExecutor(THREADS, thread_name_prefix="headers") as pool,
        tqdm(
            desc=f"reading headers in {readable(root.rpartition('/')[2])}",
            total=len(names),
            unit=" images",
            leave=False,
            delay=1,
            disable=None,
        ) as bar,
    ):
        for sizes in pool.map(lambda start: _chunk(root, names[start : start + _CHUNK], turned), starts):
            found += sizes
            bar.update(len(sizes))
    bad = {index: size for index, size in enumerate(found) if isinstance(size, str)}
    flat = chain.from_iterable((0, 0) if isinstance(size, str) else size for size in found)
    widths, heights = np.fromiter(flat, np.int32, 2 * len(found)).reshape(-1, 2).T
    return np.ascontiguousarray(widths), np.ascontiguousarray(heights), bad


def _chunk(root: str, names: Sequence[str], turned: bool) -> list[Size | str]:
    return [_size(f"{root}/{name}", turned) for name in names]


def _size(path: str, turned: bool) -> Size | str:
    """Returns (width, height), after turning where asked for, or what is wrong with the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # does not wait for the writer of a named pipe
        try:
            head = os.read(descriptor, HEAD)
        finally:
            os.close(descriptor)
        if not head:
            return "an empty file"
        size = jpeg_size(head)
        if size is None or (turned and may_be_turned(head)):
            with Image.open(path) as image:
                size = image.size[::-1] if turned and orientation_of(image) in ON_THEIR_SIDE else image.size
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


def find_absurd(
    root: str, names: Sequence[str], pixels: NDArray[np.int64], sizes: NDArray[np.int64], pixels_per_byte: float
) -> dict[int, str]:
    """Returns what is wrong with those of ``root/<name>`` that ``too_few_bytes`` refuses, by position in ``names``.

    Only files that claim so many pixels [n] for their size [n] in bytes are opened, to see whether they are JPEGs.
    """
    bad: dict[int, str] = {}
    for index in np.flatnonzero(pixels > pixels_per_byte * np.maximum(sizes, 0)).tolist():
        with suppress(OSError), Path(root, names[index]).open("rb") as file:
            if reason := too_few_bytes(jpeg_header(file.read()), int(sizes[index]), pixels_per_byte):
                bad[index] = reason
    return bad
