"""Source images per second of each pipeline with the full four-view recipe, all on the same images and cores.

Beside our pipelines run the published-style loader (the baseline), DALI's stock graph and the decode-only limit. A
round is one epoch over the corpus. A rate counts only if it is credible: each pipeline's pictures are compared with the
reference's before, every round must load every image once, and nothing may be faster than decoding alone.
"""

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from bench import bars, corpus, environment, report
from bench.arguments import multiple_of, positive
from bench.bars import LEFT, LIMIT, PUBLISHED, STOCK
from bench.four_views import (
    LABELED,
    LABELED_VIEWS,
    PLAIN,
    STEP,
    UNLABELED,
    UNLABELED_VIEWS,
    VIEWS,
    Epoch,
    checked,
    epoch_of,
    left_to_device,
    open_feed,
    streams,
)
from bench.loader import faithful, stages
from bench.loader import parts as loader_parts
from bench.measure import Contestant, Measurement, measure
from bench.yardsticks.decode_only import DecodeOnly
from bench.yardsticks.published_loader import PublishedLoader
from pipelines import NAMES
from pipelines.errors import UserError
from pipelines.samples.listing import Listing, list_images

_WARMUP = 1
PARTS = {
    "stages": "CPU time of each stage of ffcv and torchvision",
    "threads-scaling": "from 1 core to all",
    "cold": "with the corpus dropped from the page cache, too",
    "ten-times": "on ten times as many images, too",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench loader``."""
    cores = len(os.sched_getaffinity(0))
    whole_steps = multiple_of(STEP, "the images of a step")
    parser.add_argument("--images", type=whole_steps, default=20 * STEP, metavar="N", help=f"a multiple of {STEP}")
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="measured rounds, after one warm-up")
    parser.add_argument("--threads", type=positive, default=cores, metavar="N", help="threads, or worker processes")
    parser.add_argument("--pipelines", nargs="+", choices=NAMES, metavar="NAME", help="default: all that can be opened")
    parser.add_argument("--out", type=Path, default=report.FOLDER, metavar="FOLDER", help="for the report")
    parser.add_argument("--corpus", type=Path, default=corpus.default_folder(), metavar="FOLDER", help="for the images")
    for name, what in PARTS.items():
        parser.add_argument(f"--{name}", action="store_true", help=f"a further table: {what}")
    parser.add_argument("--all", action="store_true", help="all further tables")
    parser.add_argument("--part-rounds", type=positive, default=5, metavar="N", help="rounds of each further table")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print the tables. Returns 1 where a rate is not credible."""
    made = environment.record()  # first, so that the load it records is that of others
    root = corpus.build(arguments.corpus, arguments.images)
    listing = list_images(root / "train")
    with ExitStack() as opened:
        epochs, not_measured = _open_all(listing, root, arguments, opened)
        contestants = [Contestant(name, checked(name, epoch, listing)) for name, epoch in epochs.items()]
        measured = measure(contestants, unit="images/s", rounds=arguments.rounds, warmup=_WARMUP)
    names = [name for name in NAMES if name in epochs]
    parts = _parts(arguments, root, listing, names, not_measured)
    judged = bars.section(measured, _planning(measured, listing), [row for part in parts for row in part.judged])
    sections = [judged, *(part.section for part in parts)]
    written = _report(arguments, root, measured, made.ended(), not_measured, sections)
    report.show(written, console := Console())
    for path in report.write(written, arguments.out):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    for warning in (impossible := _impossible(measured)):
        print(warning, file=sys.stderr)
    return 1 if impossible else 0


def _planning(measured: Measurement, listing: Listing) -> tuple[str, float]:
    """The fastest of our pipelines, and the share that planning is of its time."""
    ours = [series for series in measured.series if series.name in NAMES]
    fastest = max(ours, key=lambda series: series.rate.median)
    return fastest.name, stages.planning_seconds(listing) * fastest.rate.median / STEP


def _parts(
    arguments: argparse.Namespace, root: Path, listing: Listing, names: list[str], not_measured: dict[str, str]
) -> list[loader_parts.Part]:
    """The further tables that were asked for; what cannot be measured here joins ``not_measured``."""
    rounds = arguments.part_rounds
    setting = loader_parts.Setting(root, listing, arguments.corpus, names, arguments.threads, rounds)
    parts = {
        "stages": lambda: loader_parts.Part(stages.section(listing, root, names, rounds)),
        "threads-scaling": lambda: loader_parts.scaling(setting),
        "cold": lambda: loader_parts.cold(setting),
        "ten-times": lambda: loader_parts.ten_times(setting),
    }
    made = []
    for name in _wanted(arguments):
        print(f"{name}: {PARTS[name]} …", file=sys.stderr)
        try:
            made.append(parts[name]())
        except UserError as error:
            not_measured[name] = str(error)
    return made


def _wanted(arguments: argparse.Namespace) -> list[str]:
    return [name for name in PARTS if arguments.all or getattr(arguments, name.replace("-", "_"))]


def _impossible(measured: Measurement) -> list[str]:
    """What is wrong with the rates: whatever delivers pictures has to decode them first."""
    limit = measured[LIMIT].rate.median
    return [
        f"NOT CREDIBLE: {each.name} is faster than decoding alone ({each.rate.median:,.0f} > {limit:,.0f} images/s)."
        for each in measured.series
        if each.rate.median > limit
    ]


def _open_all(
    listing: Listing, root: Path, arguments: argparse.Namespace, opened: ExitStack
) -> tuple[dict[str, Epoch], dict[str, str]]:
    """Contestants by name, and why others cannot run. A pipeline that was asked for by name must open, or the error
    is raised: a report without it is not what the user wanted.
    """
    threads, paths = arguments.threads, [listing.path(index) for index in range(len(listing))]
    labeled, unlabeled = streams(listing)
    both = (labeled, LABELED), (unlabeled, UNLABELED)
    # First of all: its workers are forked, and a process with numba's or DALI's threads should not fork.
    published = PublishedLoader(paths, *both, workers=threads)
    opened.callback(published.close)
    epochs: dict[str, Epoch] = {PUBLISHED: published.epoch}
    not_measured: dict[str, str] = {}
    reference = open_feed("torchvision", listing, root, threads)
    opened.callback(reference.close)
    for name in arguments.pipelines or NAMES:
        try:
            feed = open_feed(name, listing, root, threads)
            opened.callback(feed.close)
            faithful.check(name, feed, reference)
        except (UserError, ModuleNotFoundError) as error:
            if arguments.pipelines:
                raise
            not_measured[name] = str(error)
            continue
        epochs[name] = epoch_of(feed)
    if "ffcv" in epochs:
        plain, expected = (open_feed(name, listing, root, threads, PLAIN) for name in ("ffcv", "torchvision"))
        opened.callback(plain.close)
        faithful.check(LEFT, plain, expected)
        expected.close()
        epochs[LEFT] = left_to_device(plain, listing)
    if "dali" in epochs:
        from bench.yardsticks.dali_stock import StockDali  # only here: it needs DALI

        stock = StockDali(paths, *both, threads)
        opened.callback(stock.close)
        epochs[STOCK] = stock.epoch
    limit = DecodeOnly(paths, threads)
    opened.callback(limit.close)
    epochs[LIMIT] = limit.epoch
    return epochs, not_measured


def _report(
    arguments: argparse.Namespace,
    root: Path,
    measured: Measurement,
    made: environment.Environment,
    not_measured: dict[str, str],
    sections: list[report.Section],
) -> report.Report:
    threads = arguments.threads
    views = {each.name: f"{each.rate.median * VIEWS / STEP:,.0f}" for each in measured.series if each.name != LIMIT}
    command = f"python -m bench loader --images {arguments.images} --rounds {arguments.rounds} --threads {threads}"
    return report.Report(
        theme="loader",
        title="From JPEG files to finished views on the CPU",
        command=" ".join([command, *(f"--{name}" for name in _wanted(arguments))]),
        measurement=measured,
        environment=made,
        settings={
            "images per round": arguments.images,
            "mean size": f"{corpus.mean_bytes(root) / 1000:.1f} kB",
            "threads": threads,
            "rounds of the further tables": arguments.part_rounds,
            "step": f"{LABELED} labeled × {LABELED_VIEWS.count} view + {UNLABELED} unlabeled × "
            f"{UNLABELED_VIEWS.count} views (2 weak, 2 strong) of 224 px",
        },
        references=(
            report.Reference("vs published style", PUBLISHED),
            report.Reference("of the decode limit", LIMIT, percent=True),
        ),
        facts={"views/s": views, "decodes per sample": {each.name: "1" for each in measured.series}},
        not_measured=not_measured,
        sections=tuple(sections),
        notes=(*_impossible(measured), *_notes(arguments)),
    )


def _notes(arguments: argparse.Namespace) -> tuple[str, ...]:
    threads = arguments.threads
    return (
        "Each contestant decodes each sample once and cuts all its views from that picture, the published-style "
        "loader and DALI's stock graph too (by construction, not counted).",
        "Checked: our pipelines' views of one whole epoch against the torchvision reference, before timing; every "
        "round of every contestant, that each image of the corpus was loaded once.",
        f"Published style: two DataLoaders (labeled, unlabeled) with {threads} worker processes each, Pillow, "
        "float32 NCHW, normalised on the CPU. Ours: uint8 NHWC, normalised later, inside the model.",
        f"{STOCK}: readers.file, decoders.image, and per view random_resized_crop and flip, for strong ones "
        "rand_augment(n=2, m=10) with its own operations; uint8 NHWC as ours.",
        f"{LEFT}: all of the loader's work up to the copy (strong views cut and flipped, their parameters ready), "
        "none of the device's.",
        "A contestant's time ends when its process is quiet, so that batches made ahead are paid for.",
        f"Decode-only limit: tjDecompress2, flags 0, {threads} threads, file bytes and output already in memory.",
        f"Corpus: {arguments.images} pieces of {len(corpus.PHOTOGRAPHS)} photographs, never scaled, at ImageNet's "
        "usual sizes; half 4:2:0, half 4:4:4. All files are in the page cache after the warm-up round.",
    )
