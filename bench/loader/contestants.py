"""Opens what the loader bench times: our pipelines, the published-style loader, DALI's stock graph, decoding alone."""

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bench.arguments import LABELED, UNLABELED
from bench.four_views import PLAIN, PLANES, Epoch, beton, epoch_of, left_to_device, open_feed, streams
from bench.loader import faithful
from bench.loader.bars import DECODE_LIMIT, FFCV_LOADER, LEFT, PUBLISHED, STOCK
from bench.yardsticks.decode_only import DecodeOnly
from bench.yardsticks.ffcv_loader import FfcvLoader
from bench.yardsticks.published_loader import PublishedLoader
from pipelines import NAMES
from pipelines.errors import UserError
from pipelines.samples.listing import Listing


class Contestants(NamedTuple):
    """Maps names to epochs, in the order of the table, and other names to why they cannot run on this machine."""

    epochs: dict[str, Epoch]
    not_measured: dict[str, str]


def open_all(
    listing: Listing,
    root: Path,
    threads: int,
    wanted: Sequence[str] | None,
    opened: ExitStack,
    *,
    compiled: bool = True,
) -> Contestants:
    """Opens every contestant; ``opened`` closes them.

    A pipeline that is ``wanted`` by name must open, or its error is raised: a report without it is not what the user
    asked for. Without names, those that cannot be opened are not measured. ``compiled``: FFCV's own Loader, too, whose
    compilation takes minutes.
    """
    paths = [listing.path(index) for index in range(len(listing))]
    labeled, unlabeled = streams(listing)
    both = (labeled, LABELED), (unlabeled, UNLABELED)
    # First of all: its workers are forked, and a process with numba's or DALI's threads should not fork.
    published = PublishedLoader(paths, *both, workers=threads)
    opened.callback(published.close)
    ours, not_measured = _pipelines(listing, root, threads, wanted, opened)
    epochs: dict[str, Epoch] = {PUBLISHED: published.epoch, **ours}
    if "ffcv" in epochs:
        epochs[LEFT] = _left(listing, root, threads, opened)
        if find_spec("ffcv") is None:
            not_measured[FFCV_LOADER] = "FFCV's package is not installed: pip install -e '.[ffcv]'"
        elif compiled:
            loader = FfcvLoader(beton(root, threads), *both, threads)
            opened.callback(loader.close)
            epochs[FFCV_LOADER] = loader.epoch
    if "dali" in epochs:
        from bench.yardsticks.dali_stock import StockDali  # only here: it needs DALI

        stock = StockDali(paths, *both, threads)
        opened.callback(stock.close)
        epochs[STOCK] = stock.epoch
    limit = DecodeOnly(paths, threads)
    opened.callback(limit.close)
    epochs[DECODE_LIMIT] = limit.epoch
    return Contestants(epochs, not_measured)


def _pipelines(
    listing: Listing, root: Path, threads: int, wanted: Sequence[str] | None, opened: ExitStack
) -> tuple[dict[str, Epoch], dict[str, str]]:
    """Returns an epoch of each pipeline whose pictures are the reference's, and why others cannot run."""
    epochs: dict[str, Epoch] = {}
    not_measured: dict[str, str] = {}
    reference = open_feed("torchvision", listing, root, threads)
    opened.callback(reference.close)
    names = list(wanted or NAMES)
    for name in [*names, PLANES] if "ffcv" in names else names:
        try:
            feed = open_feed(name, listing, root, threads)
            opened.callback(feed.close)
            faithful.check(name, feed, reference)
        except (UserError, ModuleNotFoundError) as error:
            if wanted:
                raise
            not_measured[name] = str(error)
            continue
        epochs[name] = epoch_of(feed)
    return epochs, not_measured


def _left(listing: Listing, root: Path, threads: int, opened: ExitStack) -> Epoch:
    """Returns an epoch of ffcv where the strong views are left to the device."""
    plain, expected = (open_feed(name, listing, root, threads, PLAIN) for name in ("ffcv", "torchvision"))
    opened.callback(plain.close)
    faithful.check(LEFT, plain, expected)
    expected.close()
    return left_to_device(plain, listing)
