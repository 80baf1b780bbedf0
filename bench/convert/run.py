"""Images per second of the converter, on the same files and cores as what bounds it and what it replaces.

Kept JPEGs with the default check are measured against reading all files and writing their bytes to one file; --check
decode and --mode planes against decoding alone; --max-resolution against FFCV's own DatasetWriter. What writes also
waits until the bytes are on the disk; FFCV's writer alone does not. With --memory, the peak memory of the whole command
for so many small files is measured, too.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import add_corpus, add_out, add_quick, add_rounds, add_threads, command, positive, quicken

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.measure import Measurement
    from bench.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench convert``."""
    parser.add_argument("--images", type=positive, default=4000, metavar="N", help="files to convert")
    add_rounds(parser)
    add_threads(parser)
    parser.add_argument("--memory", type=positive, nargs="*", metavar="N", default=[],
                        help="also measure the peak memory for so many small files (such as 1000 100000)")  # fmt: skip
    add_quick(parser)
    add_out(parser)
    add_corpus(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the report, prints the table, and returns 0."""
    from bench import corpus, environment
    from bench.convert.contestants import contestants
    from bench.convert.memory import peak_memory
    from bench.measure import measure
    from bench.report import publish

    quicken(arguments, rounds=2, images=480)
    made = environment.record()  # first, so that the load it records is that of others
    root = corpus.build(arguments.corpus, arguments.images)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=arguments.corpus, prefix=corpus.CONVERSION)))
        timed = contestants(root / "train", folder, arguments.threads, opened)
        measured = measure(timed, unit="images/s", rounds=arguments.rounds)
        memory = {f"peak memory, {count:,} small files": peak_memory(folder, count) for count in arguments.memory}
    publish(_report(arguments, root, measured, made.ended(), memory), arguments.out, quick=arguments.quick)
    return 0


def _report(
    arguments: argparse.Namespace,
    root: Path,
    measured: "Measurement",
    made: "Environment",
    memory: dict[str, str],
) -> "Report":
    from bench import corpus
    from bench.convert.contestants import COPY, DECODE, FFCV
    from bench.report import Rates, Reference, Report, Section

    size = corpus.mean_bytes(root)
    speed = {each.name: f"{each.rate.median * size / 2**20:,.0f}" for each in measured.series}
    words = [command("convert", arguments, "images", "rounds", "threads")]
    if arguments.memory:
        words += ["--memory", *map(str, arguments.memory)]
    references = (
        Reference("of reading and writing", COPY, percent=True),
        Reference("of decoding alone", DECODE, percent=True),
        Reference("vs FFCV's writer", FFCV),
    )
    peaks = Section("Peak memory of the whole command", (("", "peak"), *memory.items()))
    return Report(
        theme="convert",
        title="From JPEG files to one .beton",
        command=" ".join(words),
        environment=made,
        settings={
            "images per round": arguments.images,
            "mean size": f"{size / 1000:.1f} kB",
            "threads": arguments.threads,
            **memory,
        },
        rates=Rates(measured, references, {"MiB/s of files": speed}),
        sections=(peaks,) if memory else (),
        notes=_notes(arguments.threads),
    )


def _notes(threads: int) -> tuple[str, ...]:
    from bench.convert.contestants import COPY_AHEAD, PLANES, RESOLUTION, SLOWER, UNCOMPARED

    return (
        f"Reading and writing alone: {threads} threads read whole files, one thread writes their bytes to one "
        "file and waits until they are on the disk. So does the converter, which also reads the headers, hashes "
        "each file, keeps a journal and writes the tables. It commits every 16 MiB, in a thread, so the disk works "
        f"while files are read: it can be faster than what waits for the disk only at its end. '{COPY_AHEAD}' has "
        "that advantage, too, and none of the work.",
        f"{PLANES}: each JPEG is decoded to planes, these are converted to RGB, and Pillow decodes the JPEG again to "
        f"compare all pixels. {UNCOMPARED}: it is decoded to planes once, and nothing is compared.",
        f"Decoding alone: tjDecompress2, flags 0, {threads} threads, file bytes and output already in memory.",
        f"FFCV's DatasetWriter: torchvision's ImageFolder, RGBImageField(write_mode='jpg', max_resolution="
        f"{RESOLUTION}), {threads} worker processes, started beforehand; it encodes every image again, ours only "
        f"those that are larger than {RESOLUTION} pixels. It does not wait for the disk.",
        f"What decodes or encodes is measured on every {SLOWER}th image, the others on all.",
        "All files are in the page cache after the warm-up round; before each turn, the disk is idle.",
    )
