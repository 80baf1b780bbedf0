"""Source images per second of each pipeline with the full four-view recipe, all on the same images and cores.

A step is 8 labeled images with one weak view and 40 unlabeled ones with two weak and two strong views: 48 decodes at
best, 168 views. Beside our pipelines run the published-style loader (the baseline) and the decode-only limit. A round
is one epoch over the corpus. A rate counts only if it is credible: each pipeline's pictures are compared with the
reference's before, every round must load every image once, and nothing may be faster than decoding alone.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bench import corpus, environment, faithful, report
from bench.decode_only import DecodeOnly
from bench.measure import Contestant, Measurement, measure
from bench.published import PublishedLoader
from pipelines import NAMES, open_source
from pipelines.errors import DataError, MissingDependency, UserError
from pipelines.feed import Feed
from pipelines.listing import Listing, list_images
from pipelines.options import SourceOptions
from pipelines.order import Stream, TrainingOrder
from pipelines.views import TrainingViews

_LABELED, _UNLABELED = 8, 40  # images a step
_STEP = _LABELED + _UNLABELED
_LABELED_VIEWS, _UNLABELED_VIEWS = TrainingViews(weak=1), TrainingViews(weak=2, strong=2)
_VIEWS = _LABELED * _LABELED_VIEWS.count + _UNLABELED * _UNLABELED_VIEWS.count
_WARMUP = 1

PUBLISHED = "published-style PIL loader"
LIMIT = "decode-only limit"

Epoch = Callable[[], NDArray[np.int64]]
"""Loads every image once; returns their indices."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench loader``."""
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--images", type=_steps, default=20 * _STEP, metavar="N", help=f"a multiple of {_STEP}")
    parser.add_argument("--rounds", type=_positive, default=7, metavar="N", help="measured rounds, after one warm-up")
    parser.add_argument("--threads", type=_positive, default=cores, metavar="N", help="threads, or worker processes")
    parser.add_argument("--pipelines", nargs="+", choices=NAMES, metavar="NAME", help="default: all that can be opened")
    parser.add_argument("--out", type=Path, default=report.FOLDER, metavar="FOLDER", help="for the report")
    parser.add_argument("--corpus", type=Path, default=corpus.default_folder(), metavar="FOLDER", help="for the images")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print the table. Returns 1 where a rate is not credible."""
    made = environment.record()  # first, so that the load it records is that of others
    root = corpus.build(arguments.corpus, arguments.images)
    listing = list_images(root / "train")
    with ExitStack() as opened:
        epochs, not_measured = _open_all(listing, root, arguments, opened)
        contestants = [Contestant(name, _checked(name, epoch, listing)) for name, epoch in epochs.items()]
        measured = measure(contestants, unit="images/s", rounds=arguments.rounds, warmup=_WARMUP)
    written = _report(arguments, root, measured, made.ended(), not_measured)
    report.show(written, console := Console())
    for path in report.write(written, arguments.out):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    for warning in (impossible := _impossible(measured)):
        print(warning, file=sys.stderr)
    return 1 if impossible else 0


def _impossible(measured: Measurement) -> list[str]:
    """What is wrong with the rates: whatever delivers pictures has to decode them first."""
    limit = measured[LIMIT].rate.median
    return [
        f"NOT CREDIBLE: {each.name} is faster than decoding alone ({each.rate.median:,.0f} > {limit:,.0f} images/s)."
        for each in measured.series
        if each.rate.median > limit
    ]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on (got {text})")
    return int(text)


def _steps(text: str) -> int:
    if (images := _positive(text)) % _STEP:
        raise argparse.ArgumentTypeError(f"must be a multiple of {_STEP}, the images of a step (got {images})")
    return images


def _open_all(
    listing: Listing, root: Path, arguments: argparse.Namespace, opened: ExitStack
) -> tuple[dict[str, Epoch], dict[str, str]]:
    """Contestants by name, and why others cannot run. A pipeline that was asked for by name must open, or the error
    is raised: a report without it is not what the user wanted.
    """
    threads, paths = arguments.threads, [listing.path(index) for index in range(len(listing))]
    labeled, unlabeled = _streams(listing)
    # First of all: its workers are forked, and a process with numba's or DALI's threads should not fork.
    published = PublishedLoader(paths, (labeled, _LABELED), (unlabeled, _UNLABELED), workers=threads)
    opened.callback(published.close)
    epochs: dict[str, Epoch] = {PUBLISHED: published.epoch}
    not_measured: dict[str, str] = {}
    reference = _open_feed("torchvision", listing, root, threads)
    opened.callback(reference.close)
    for name in arguments.pipelines or NAMES:
        try:
            feed = _open_feed(name, listing, root, threads)
            opened.callback(feed.close)
            faithful.check(name, feed, reference)
        except (UserError, ModuleNotFoundError) as error:
            if arguments.pipelines:
                raise
            not_measured[name] = str(error)
            continue
        epochs[name] = _epoch_of(feed)
    limit = DecodeOnly(paths, threads)
    opened.callback(limit.close)
    epochs[LIMIT] = limit.epoch
    return epochs, not_measured


def _streams(listing: Listing) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every sixth image is labeled, so that an epoch of both streams is each image once."""
    labeled = listing.positions % (_STEP // _LABELED) == 0
    return listing.positions[labeled], listing.positions[~labeled]


def _open_feed(name: str, listing: Listing, root: Path, threads: int) -> Feed:
    """One of our pipelines, exactly as training opens it."""
    options = SourceOptions(threads=threads, beton=_beton(root, threads) if name == "ffcv" else None)
    labeled, unlabeled = _streams(listing)
    steps = len(listing) // _STEP
    order = TrainingOrder(
        labeled, seed=0, stream=Stream.LABELED, batch=_LABELED, groups=1, steps=steps, continuous=True
    )
    first = open_source(name, listing, order, _LABELED_VIEWS, options)
    order = TrainingOrder(
        unlabeled, seed=0, stream=Stream.UNLABELED, batch=_UNLABELED, groups=1, steps=steps, continuous=False
    )
    try:
        second = open_source(name, listing, order, _UNLABELED_VIEWS, options)
    except BaseException:
        first.close()
        raise
    return Feed(first, second, prefetch=2)


def _beton(root: Path, threads: int) -> Path:
    """The corpus as ffcv wants it, converted once, by the users' own tool."""
    beton = root / "ffcv" / "train.beton"
    if beton.exists():
        return beton
    if find_spec("ffcv") is None:
        raise MissingDependency("needs ffcv, which is not installed. Run: pip install -e '.[ffcv]'")
    tool = Path(__file__).parents[1] / "tools" / "convert_imagenet_to_ffcv.py"
    command = [sys.executable, str(tool), "--data", str(root), "--split", "train", "--workers", str(threads)]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if done.returncode or not beton.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"{tool.name} could not convert the corpus {root}: {last}")
    return beton


def _epoch_of(feed: Feed) -> Epoch:
    def epoch() -> NDArray[np.int64]:
        return np.concatenate([np.concatenate([views.index.numpy() for views in batch]) for batch in feed])

    return epoch


def _checked(name: str, epoch: Epoch, listing: Listing) -> Callable[[], int]:
    """One round's work, which must have met every image once."""

    def run_epoch() -> int:
        seen = epoch()
        if not np.array_equal(np.sort(seen), listing.positions):
            raise RuntimeError(f"{name} did not load each of the {len(listing)} images once ({len(seen)} loaded).")
        return len(seen)

    return run_epoch


def _report(
    arguments: argparse.Namespace,
    root: Path,
    measured: Measurement,
    made: environment.Environment,
    not_measured: dict[str, str],
) -> report.Report:
    threads = arguments.threads
    views = {each.name: f"{each.rate.median * _VIEWS / _STEP:,.0f}" for each in measured.series if each.name != LIMIT}
    return report.Report(
        theme="loader",
        title="From JPEG files to finished views on the CPU",
        command=f"python -m bench loader --images {arguments.images} --rounds {arguments.rounds} --threads {threads}",
        measurement=measured,
        environment=made,
        settings={
            "images per round": arguments.images,
            "mean size": f"{corpus.mean_bytes(root) / 1000:.1f} kB",
            "threads": threads,
            "step": f"{_LABELED} labeled × {_LABELED_VIEWS.count} view + {_UNLABELED} unlabeled × "
            f"{_UNLABELED_VIEWS.count} views (2 weak, 2 strong) of 224 px",
        },
        references=(
            report.Reference("vs published style", PUBLISHED),
            report.Reference("of the decode limit", LIMIT, percent=True),
        ),
        facts={"views/s": views, "decodes per sample": {each.name: "1" for each in measured.series}},
        not_measured=not_measured,
        notes=(
            *_impossible(measured),
            "Each contestant decodes each sample once and cuts all its views from that picture, the published-style "
            "loader too (by construction, not counted).",
            "Checked: our pipelines' views of one whole epoch against the torchvision reference, before timing; every "
            "round of every contestant, that each image of the corpus was loaded once.",
            f"Published style: two DataLoaders (labeled, unlabeled) with {threads} worker processes each, Pillow, "
            "float32 NCHW, normalised on the CPU. Ours: uint8 NHWC, normalised later, inside the model.",
            "A contestant's time ends when its process is quiet, so that batches made ahead are paid for.",
            f"Decode-only limit: tjDecompress2, flags 0, {threads} threads, file bytes and output already in memory.",
            f"Corpus: {arguments.images} pieces of {len(corpus.PHOTOGRAPHS)} photographs, never scaled, at ImageNet's "
            "usual sizes; half 4:2:0, half 4:4:4. All files are in the page cache after the warm-up round.",
        ),
    )
