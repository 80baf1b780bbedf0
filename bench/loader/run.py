"""Source images per second of each pipeline with the full four-view recipe, all on the same images and cores.

Beside our pipelines run the published-style loader (the baseline), DALI's stock graph and the decode-only limit. A
round is one epoch over the corpus. A rate counts only if it is credible: each pipeline's pictures are compared with the
reference's before, every round must load every image once, and nothing may be faster than decoding alone.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

from bench.arguments import STEP, add_corpus, add_images, add_out, add_quick, add_rounds, add_threads, positive, quicken
from pipelines import NAMES, console
from pipelines.errors import UserError

FURTHER_TABLES = {
    "stages": "CPU time of each stage of ffcv and torchvision",
    "threads-scaling": "from 1 core to all",
    "cold": "with the corpus dropped from the page cache, too",
    "ten-times": "on ten times as many images, too",
}
"""Option → what it adds to the report."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench loader``."""
    add_images(parser)
    add_rounds(parser)
    add_threads(parser)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="data root whose JPEGs to take, instead of our own")
    parser.add_argument("--pipelines", nargs="+", choices=NAMES, metavar="NAME", help="default: all that can be opened")
    add_quick(parser)
    add_out(parser)
    add_corpus(parser)
    for name, what in FURTHER_TABLES.items():
        parser.add_argument(f"--{name}", action="store_true", help=f"a further table: {what}")
    parser.add_argument("--all", action="store_true", help="all further tables")
    parser.add_argument("--part-rounds", type=positive, default=5, metavar="N", help="rounds of each further table")


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the report, prints the tables. Returns 1 where a rate is not credible."""
    from bench import environment, samples
    from bench.four_views import checked
    from bench.loader import account
    from bench.loader.contestants import open_all
    from bench.loader.further import Corpus
    from bench.measure import Contestant, measure
    from bench.report import publish
    from pipelines.samples.listing import list_images

    quicken(arguments, rounds=2, part_rounds=2, images=5 * STEP)
    if arguments.data and (arguments.all or arguments.ten_times):
        raise UserError(
            "--ten-times needs the bench's own images, of which it makes ten times as many: leave out --data."
        )
    made = environment.record(arguments.data)  # first, so that the load it records is that of others
    with ExitStack() as kept:
        root = samples.root_of(arguments.data, arguments.corpus, arguments.images, kept)
        listing = list_images(root / "train")
        samples.require_jpegs(listing)
        arguments.images = len(listing)
        named = arguments.pipelines
        with ExitStack() as opened:
            compiled = not (named or arguments.quick)
            epochs, not_measured = open_all(listing, root, arguments.threads, named, opened, compiled=compiled)
            contestants = [Contestant(name, checked(name, epoch, listing)) for name, epoch in epochs.items()]
            measured = measure(contestants, unit="images/s", rounds=arguments.rounds)
        names = [name for name in NAMES if name in epochs]
        shared = Corpus(root, listing, arguments.corpus, names, arguments.threads, arguments.part_rounds)
        wanted = [name for name in FURTHER_TABLES if arguments.all or getattr(arguments, name.replace("-", "_"))]
        further, failed = account.further_tables(wanted, shared)
        written = account.report(arguments, wanted, shared, measured, made.ended(), not_measured | failed, further)
    publish(written, arguments.out, quick=arguments.quick)
    for warning in (impossible := account.impossible(measured)):
        console.say(warning, error=True)
    return 1 if impossible else 0
