"""Reads a file once from end to end, so that the operating system keeps it in memory (its page cache)."""

import os
import time
from pathlib import Path

from tqdm import tqdm

from pipelines import console
from pipelines.beton.memory import available_memory
from pipelines.errors import DataError
from pipelines.names import readable

_BLOCK = 1 << 24


def warm(path: Path) -> None:
    """Reads the file and prints how fast that was, and where the file cannot stay in memory."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"Cannot read {readable(path)}: {error.strerror}. Name a .beton file.") from error
    try:
        size = os.fstat(descriptor).st_size
        if size > (memory := available_memory()):
            console.say(
                f"{readable(path)} has {size / 2**30:.1f} GiB, but only {memory / 2**30:.1f} GiB of memory are "
                "free: its "
                "beginning will be gone when its end is read. Training works, but reads from the disk.",
                error=True,
            )
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        block, begin = bytearray(_BLOCK), time.perf_counter()
        with tqdm(total=size, desc=readable(path.name), unit="B", unit_scale=True, unit_divisor=1024) as bar:
            while count := os.readv(descriptor, [block]):
                bar.update(count)
        seconds = time.perf_counter() - begin
    finally:
        os.close(descriptor)
    console.say(
        f"{readable(path)}: {size / 2**30:.2f} GiB read in {seconds:.1f} s, "
        f"{size / 2**30 / max(seconds, 1e-9):.2f} GiB/s"
    )
