"""What the conversion bench times: the converter in five settings, what bounds each, and what it replaces."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.measure import Contestant
from bench.yardsticks.decode_only import DecodeOnly
from bench.yardsticks.ffcv_writer import FfcvWriter
from pipelines.beton.convert import convert, scan
from pipelines.beton.one_image import Encoding
from pipelines.errors import DataError
from pipelines.names import readable

KEPT, COPY = "JPEGs kept", "reading and writing alone"
COPY_AHEAD = "the same, the disk writing meanwhile"
DECODED, DECODE = "JPEGs kept, --check decode", "decoding alone"
PLANES, UNCOMPARED = "--mode planes", "--mode planes, --check header"
SHRUNK, FFCV = "--max-resolution 500", "FFCV's DatasetWriter, 500"
RESOLUTION = 500
SLOWER = 4
"""What decodes or encodes takes only every fourth image."""
_BLOCK = 16
"""Files that a thread reads at a time."""


def contestants(root: Path, folder: Path, threads: int, opened: ExitStack) -> list[Contestant]:
    """Returns the contestants; each begins with nothing written, and with the same listing in memory."""
    listing = scan(root)
    paths = [listing.path(index) for index in range(len(listing))]
    some = listing.indices[::SLOWER]
    ffcv = FfcvWriter(root, folder / "ffcv.beton", RESOLUTION, threads, some.tolist())
    opened.callback(ffcv.close)
    decode = DecodeOnly([paths[index] for index in some], threads)
    opened.callback(decode.close)

    def ours(encoding: Encoding, indices: NDArray[np.int64]) -> Callable[[], int]:
        def run_once() -> int:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                convert(listing, folder / "ours.beton", encoding, threads, indices=indices)
            return len(indices)

        return run_once

    def nothing_written() -> None:
        for path in folder.glob("*.beton*"):
            path.unlink()
        os.sync()  # or the disk would still be writing the turn before

    runs = {
        COPY: lambda: _copy(paths, folder / "copy.beton", threads),
        COPY_AHEAD: lambda: _copy(paths, folder / "copy.beton", threads, ahead=True),
        KEPT: ours(Encoding(), listing.indices),
        DECODE: lambda: len(decode.epoch()),
        DECODED: ours(Encoding(check="decode"), some),
        UNCOMPARED: ours(Encoding(mode="planes"), some),
        PLANES: ours(Encoding(mode="planes", check="decode"), some),
        FFCV: ffcv.convert,
        SHRUNK: ours(Encoding(max_resolution=RESOLUTION), some),
    }
    return [Contestant(name, run_once, nothing_written) for name, run_once in runs.items()]


def _copy(paths: list[Path], target: Path, threads: int, ahead: bool = False) -> int:
    """Copies all files into one and returns their number: threads read, one thread writes in order, to the disk.

    With ``ahead`` a further thread makes the disk begin while the files are read, as the converter's commits do.
    """
    names = [str(path) for path in paths]

    def read(first: int) -> list[bytes]:
        return [_read(name) for name in names[first : first + _BLOCK]]

    synced: Future[None] | None = None
    with (
        target.open("wb", buffering=0) as file,
        ThreadPoolExecutor(threads) as pool,
        ThreadPoolExecutor(1) as disk,
    ):
        for block in _in_order(pool, read, range(0, len(names), _BLOCK), 2 * threads):
            os.writev(file.fileno(), block)
            if ahead and (synced is None or synced.done()):
                synced = disk.submit(os.fdatasync, file.fileno())
        disk.shutdown()
        os.fsync(file.fileno())
    if (size := target.stat().st_size) != sum(os.stat(name).st_size for name in names):
        raise DataError(f"{readable(target)} has only {size} bytes: is the disk full?")
    return len(names)


def _in_order(
    pool: ThreadPoolExecutor, read: Callable[[int], list[bytes]], blocks: range, ahead: int
) -> Iterator[list[bytes]]:
    waiting = [pool.submit(read, first) for first in blocks[:ahead]]
    for first in blocks[ahead:]:
        yield waiting.pop(0).result()
        waiting.append(pool.submit(read, first))
    for future in waiting:
        yield future.result()


def _read(name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
