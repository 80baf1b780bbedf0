"""What the loader bench times: the four-view recipe through each pipeline, exactly as training opens it.

A step is 8 labeled images with one weak view and 40 unlabeled ones with two weak and two strong views: 48 decodes at
best, 168 views.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.arguments import LABELED, STEP, UNLABELED
from pipelines import open_source
from pipelines.augment import gpu
from pipelines.augment.policy import plan
from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.order import Stream, TrainingOrder
from pipelines.samples.listing import Listing
from pipelines.sources.feed import Feed
from pipelines.sources.options import FfcvOptions, Resources
from pipelines.views import TrainingViews

LABELED_VIEWS, UNLABELED_VIEWS = TrainingViews(weak=1), TrainingViews(weak=2, strong=2)
VIEWS = LABELED * LABELED_VIEWS.count + UNLABELED * UNLABELED_VIEWS.count
PLAIN = TrainingViews(weak=UNLABELED_VIEWS.count)
"""The unlabeled images' views without RandAugment: the same crops and flips, which do not depend on what follows."""
PLANES = "ffcv, planes"
"""Our ffcv pipeline over a file of planes, which is opened as a pipeline of this name."""

Epoch = Callable[[], NDArray[np.int64]]
"""Loads every image once; returns their indices."""
BatchedIndices = tuple[NDArray[np.int64], int]
"""Indices of one stream's images, and how many make a batch."""


def streams(listing: Listing) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns labeled and unlabeled indices; every sixth is labeled, so that one epoch of both is each image once."""
    labeled = listing.indices % (STEP // LABELED) == 0
    return listing.indices[labeled], listing.indices[~labeled]


def orders(listing: Listing, steps: int | None = None) -> tuple[TrainingOrder, TrainingOrder]:
    """Returns the labeled and the unlabeled stream's order, in epochs of ``steps`` steps; by default of all images."""
    labeled, unlabeled = streams(listing)
    steps = steps or len(listing) // STEP
    return (
        TrainingOrder(labeled, seed=0, stream=Stream.LABELED, batch=LABELED, groups=1, steps=steps, continuous=True),
        TrainingOrder(
            unlabeled, seed=0, stream=Stream.UNLABELED, batch=UNLABELED, groups=1, steps=steps, continuous=False
        ),
    )


def open_feed(
    name: str,
    listing: Listing,
    root: Path,
    threads: int,
    unlabeled_views: TrainingViews = UNLABELED_VIEWS,
    steps: int | None = None,
    labeled_views: TrainingViews = LABELED_VIEWS,
    cache: Literal["auto", "page"] = "auto",
) -> Feed:
    """Opens one of our pipelines over the corpus at ``root``; ``steps`` limits an epoch, by default to all images."""
    planes, name = name == PLANES, name.partition(",")[0]
    resources = Resources(threads=threads, beton=beton(root, threads, planes=planes) if name == "ffcv" else None)
    options = FfcvOptions(cache=cache) if name == "ffcv" else None
    labeled, unlabeled = orders(listing, steps)
    first = open_source(name, listing, labeled, labeled_views, resources, options)
    try:
        second = open_source(name, listing, unlabeled, unlabeled_views, resources, options)
    except BaseException:
        first.close()
        raise
    return Feed(first, second, prefetch=2)


def beton(root: Path, threads: int, *, planes: bool = False) -> Path:
    """Returns the corpus as a .beton below ``root``, of JPEGs or of planes, converted once, by the users' own tool.

    Raises DataError where the conversion fails.
    """
    if planes:  # a folder of its own, because the tool names the file
        (root / "planes").mkdir(exist_ok=True)
        if not (root / "planes/train").exists():
            (root / "planes/train").symlink_to("../train")
        root = root / "planes"
    path = root / "ffcv" / "train.beton"
    if path.exists():
        return path
    tool = Path(__file__).parents[1] / "tools" / "convert_imagenet_to_ffcv.py"
    command = [sys.executable, str(tool), "--data", str(root), "--split", "train", "--workers", str(threads)]
    command += ["--mode", "planes"] if planes else []
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if done.returncode or not path.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"{tool.name} could not convert the corpus {readable(root)}: {last}")
    return path


def epoch_of(feed: Feed) -> Epoch:
    """Returns a function that runs one epoch through the feed."""

    def epoch() -> NDArray[np.int64]:
        return np.concatenate([np.concatenate([views.index.numpy() for views in batch]) for batch in feed])

    return epoch


def left_to_device(feed: Feed, listing: Listing) -> Epoch:
    """Returns an epoch of a feed of PLAIN views, with what the host has to prepare for the device's RandAugment.

    The device's own work is left out. Planning is paid twice here, which is little, and not in our favour.
    """
    _, order = orders(listing)
    weak, size = UNLABELED_VIEWS.weak, UNLABELED_VIEWS.size

    def epoch() -> NDArray[np.int64]:
        seen = []
        for batch, draws in zip(feed, order.groups(0, 0), strict=True):
            sizes = listing.heights[draws.index], listing.widths[draws.index]
            planned = plan(UNLABELED_VIEWS, draws, *sizes)
            gpu.parameters(planned.op[weak:], planned.level[weak:], size, size)
            seen += [views.index.numpy() for views in batch]
        return np.concatenate(seen)

    return epoch


def checked(name: str, epoch: Epoch, listing: Listing) -> Callable[[], int]:
    """Returns one round's work, which must have met every image once, or RuntimeError is raised."""

    def run_epoch() -> int:
        seen = epoch()
        if not np.array_equal(np.sort(seen), listing.indices):
            raise RuntimeError(f"{name} did not load each of the {len(listing)} images once ({len(seen)} loaded).")
        return len(seen)

    return run_epoch
