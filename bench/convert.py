"""Images per second of the converter, on the same files and cores as what bounds it and what it replaces.

Kept JPEGs with the default check are measured against reading all files and writing their bytes to one file; --check
decode against decoding alone; --max-resolution against FFCV's own DatasetWriter. What writes also waits until the
bytes are on the disk; FFCV's writer alone does not. With --memory, the peak memory of the whole command for
1,000 and for 100,000 small files.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from bench import corpus, environment, report
from bench.arguments import positive
from bench.measure import Contestant, Measurement, measure
from bench.yardsticks.decode_only import DecodeOnly
from bench.yardsticks.ffcv_writer import FfcvWriter
from pipelines.beton.convert import convert, scan
from pipelines.beton.one_image import Encoding
from pipelines.errors import DataError

KEPT, COPY = "JPEGs kept", "reading and writing alone"
COPY_AHEAD = "the same, the disk writing meanwhile"
DECODED, DECODE = "JPEGs kept, --check decode", "decoding alone"
SHRUNK, FFCV = "--max-resolution 500", "FFCV's DatasetWriter, 500"
_RESOLUTION = 500
_TOOL = Path(__file__).parents[1] / "tools" / "convert_imagenet_to_ffcv.py"
_OWN_PEAK = """
import pathlib, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    if ended.code:
        raise
print(next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
"""Runs a script and prints its peak. Not the kernel's ru_maxrss, which begins with that of the process that forked."""
_BLOCK = 16
_SLOWER = 4
"""What decodes or encodes takes only every fourth image."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench convert``."""
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--images", type=positive, default=4000, metavar="N", help="files to convert")
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="measured rounds, after one warm-up")
    parser.add_argument("--threads", type=positive, default=cores, metavar="N", help="threads, or worker processes")
    parser.add_argument("--memory", type=positive, nargs="*", metavar="N", default=[],
                        help="also measure the peak memory for so many small files (such as 1000 100000)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=report.FOLDER, metavar="FOLDER", help="for the report")
    parser.add_argument("--corpus", type=Path, default=corpus.default_folder(), metavar="FOLDER", help="for the images")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print the table."""
    made = environment.record()  # first, so that the load it records is that of others
    root = corpus.build(arguments.corpus, arguments.images)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=arguments.corpus, prefix=".convert-")))
        contestants = _contestants(root / "train", folder, arguments.threads, opened)
        measured = measure(contestants, unit="images/s", rounds=arguments.rounds)
        memory = {f"peak memory, {count:,} small files": _peak_memory(folder, count) for count in arguments.memory}
    written = _report(arguments, root, measured, made.ended(), memory)
    report.show(written, console := Console())
    for name, peak in memory.items():
        console.print(f"{name}: {peak}")
    for path in report.write(written, arguments.out):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return 0


def _contestants(root: Path, folder: Path, threads: int, opened: ExitStack) -> list[Contestant]:
    """Each begins with nothing written, and with the same listing in memory."""
    listing = scan(root)
    paths = [listing.path(index) for index in range(len(listing))]
    some = listing.indices[::_SLOWER]
    ffcv = FfcvWriter(root, folder / "ffcv.beton", _RESOLUTION, threads, some.tolist())
    opened.callback(ffcv.close)
    decode = DecodeOnly([paths[index] for index in some], threads)
    opened.callback(decode.close)

    def ours(encoding: Encoding, positions: NDArray[np.int64]) -> Callable[[], int]:
        def run_once() -> int:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                convert(listing, folder / "ours.beton", encoding, threads, positions=positions)
            return len(positions)

        return run_once

    def nothing_written() -> None:
        for path in folder.glob("*.beton*"):
            path.unlink()
        os.sync()  # nor waiting to be

    runs = {
        COPY: lambda: _copy(paths, folder / "copy.beton", threads),
        COPY_AHEAD: lambda: _copy(paths, folder / "copy.beton", threads, ahead=True),
        KEPT: ours(Encoding(), listing.indices),
        DECODE: lambda: len(decode.epoch()),
        DECODED: ours(Encoding(check="decode"), some),
        FFCV: ffcv.convert,
        SHRUNK: ours(Encoding(max_resolution=_RESOLUTION), some),
    }
    return [Contestant(name, run_once, nothing_written) for name, run_once in runs.items()]


def _copy(paths: list[Path], target: Path, threads: int, ahead: bool = False) -> int:
    """The bound: threads read whole files, a few at a time; one thread writes them, in order, to the disk.

    ``ahead``: a further thread makes the disk begin while the files are read, as the converter's commits do.
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
        raise DataError(f"{target} has only {size} bytes: is the disk full?")
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


def _peak_memory(folder: Path, count: int) -> str:
    """Of the whole command, Python and libraries included, over ``count`` small files."""
    root = folder / f"small-{count}"
    image = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((48, 48)).save(image, "JPEG")
    for part in range(0, count, 1000):
        (root / "train" / f"{part:08}").mkdir(parents=True)
        for number in range(part, min(part + 1000, count)):
            (root / "train" / f"{part:08}" / f"{number:08}.JPEG").write_bytes(image.getvalue())
    arguments = ["--data", str(root), "--split", "train"]
    command = [sys.executable, "-c", _OWN_PEAK, str(_TOOL), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"{_TOOL.name} failed on {count} small files in {root}: {done.stderr[-300:]}")
    return f"{int(done.stdout.split()[-2]) / 1024:.0f} MiB"


def _report(
    arguments: argparse.Namespace,
    root: Path,
    measured: Measurement,
    made: environment.Environment,
    memory: dict[str, str],
) -> report.Report:
    threads = arguments.threads
    size = corpus.mean_bytes(root)
    rates = {each.name: f"{each.rate.median * size / 2**20:,.0f}" for each in measured.series}
    words = f"--images {arguments.images} --rounds {arguments.rounds} --threads {threads}"
    if arguments.memory:
        words += " --memory " + " ".join(map(str, arguments.memory))
    return report.Report(
        theme="convert",
        title="From JPEG files to one .beton",
        command=f"python -m bench convert {words}",
        measurement=measured,
        environment=made,
        settings={
            "images per round": arguments.images,
            "mean size": f"{size / 1000:.1f} kB",
            "threads": threads,
            **memory,
        },
        references=(
            report.Reference("of reading and writing", COPY, percent=True),
            report.Reference("of decoding alone", DECODE, percent=True),
            report.Reference("vs FFCV's writer", FFCV),
        ),
        facts={"MiB/s of files": rates},
        notes=(
            f"Reading and writing alone: {threads} threads read whole files, one thread writes their bytes to one "
            "file and waits until they are on the disk. So does the converter, which also reads the headers, hashes "
            "each file, keeps a journal and writes the tables. It commits every 16 MiB, in a thread, so the disk works "
            f"while files are read: it can be faster than what waits for the disk only at its end. '{COPY_AHEAD}' has "
            "that advantage, too, and none of the work.",
            f"Decoding alone: tjDecompress2, flags 0, {threads} threads, file bytes and output already in memory.",
            f"FFCV's DatasetWriter: torchvision's ImageFolder, RGBImageField(write_mode='jpg', max_resolution="
            f"{_RESOLUTION}), {threads} worker processes, started beforehand; it encodes every image again, ours only "
            f"those that are larger than {_RESOLUTION} pixels. It does not wait for the disk.",
            f"What decodes or encodes is measured on every {_SLOWER}th image, the others on all.",
            "All files are in the page cache after the warm-up round; before each turn, the disk is idle.",
        ),
    )  # fmt: skip
