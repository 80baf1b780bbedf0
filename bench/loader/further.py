"""Further questions to the loaders: files that are not in memory, ten times the data."""

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench import corpus as corpora
from bench.four_views import PLANES, beton, checked, epoch_of, open_feed
from bench.loader import bars, page_cache
from bench.measure import Contestant, Measurement, Spread, measure
from bench.report import Section, ratio
from bench.report.bars import Judged
from pipelines.samples.listing import Listing, list_images
from pipelines.sources.feed import Feed

_LARGE_ROUNDS = 3
"""Rounds at most over ten times the data, each of which takes eleven times as long as the other tables' rounds."""


class Corpus(NamedTuple):
    """Holds what the further tables share with the main one."""

    root: Path
    listing: Listing
    folder: Path  # where corpora lie
    names: list[str]  # of the pipelines that can be opened
    threads: int
    rounds: int


class FurtherTable(NamedTuple):
    """A further table, and the bars that it decides."""

    section: Section
    judged: tuple[Judged, ...] = ()


def cold(corpus: Corpus) -> FurtherTable:
    """Measures each pipeline with its files in the page cache, and with none of them there.

    Raises DataError where the file system keeps them in memory.
    """
    files = [corpus.listing.path(index) for index in range(len(corpus.listing))]
    names = list(corpus.names)
    if "ffcv" in names:
        names.append(PLANES)
        files += [beton(corpus.root, corpus.threads, planes=planes) for planes in (False, True)]
    page_cache.drop(files)  # to know at once whether that works here
    current: list[Feed] = []  # one at a time: pages that some open source has mapped would not be dropped

    def close() -> None:
        while current:
            current.pop().close()

    def reopened(name: str, forget: bool) -> Contestant:
        def setup() -> None:
            close()
            if forget:
                page_cache.drop(files)
            else:
                for file in files:
                    file.read_bytes()
            # "page": the copy that ffcv makes in the background would begin before the clock does.
            current.append(open_feed(name, corpus.listing, corpus.root, corpus.threads, cache="page"))

        def run() -> int:
            return checked(name, epoch_of(current[0]), corpus.listing)()

        return Contestant(f"{name}, {'cold' if forget else 'warm'}", run, setup)

    try:
        contestants = [reopened(name, forget) for name in names for forget in (False, True)]
        measured = measure(contestants, unit="images/s", rounds=corpus.rounds)
    finally:
        close()
    rows: list[tuple[str, ...]] = [("", "warm, images/s", "cold, images/s", "cold against warm")]
    for name in names:
        warm, from_disk = measured[f"{name}, warm"], measured[f"{name}, cold"]
        rates = [f"{s.rate.median:,.0f} ({s.rate.low:,.0f}–{s.rate.high:,.0f})" for s in (warm, from_disk)]
        rows.append((name, *rates, ratio(from_disk, warm, False)))
    note = (
        "Cold: the corpus's pages are dropped (posix_fadvise, checked with mincore) before each run. Both open the "
        "pipeline anew, so these are rates of a first epoch; ffcv with ffcv.cache=page. What the disk behind "
        "the machine keeps is not known."
    )
    return FurtherTable(Section("Cold and warm page cache", tuple(rows), note, {"measurement": measured}))


def ten_times(corpus: Corpus) -> FurtherTable:
    """Measures an image's cost where the corpus is ten times as large: more pieces of the same photographs."""
    small = corpus.listing
    root = corpora.build(corpus.folder, 10 * len(small))
    large = list_images(root / "train")
    with ExitStack() as opened:
        contestants = []
        for name in corpus.names:
            for listing, place in ((small, corpus.root), (large, root)):
                feed = open_feed(name, listing, place, corpus.threads)
                opened.callback(feed.close)
                run = checked(name, epoch_of(feed), listing)
                contestants.append(Contestant(f"{name}, {len(listing)} images", run))
        measured = measure(contestants, unit="images/s", rounds=min(corpus.rounds, _LARGE_ROUNDS))
    headings = (f"ms per image, {len(small)}", f"ms per image, {len(large)}", "ratio")
    rows: list[tuple[str, ...]] = [("", *headings)]
    judged = []
    for name in corpus.names:
        few, many = (_milliseconds(measured, f"{name}, {len(listing)} images") for listing in (small, large))
        shown = [f"{spread.median:.3f} ({spread.low:.3f}–{spread.high:.3f})" for spread in (few, many)]
        rows.append((name, *shown, f"{many.median / few.median:.3f}×"))
        judged.append(bars.flat(name, few, many))
    note = f"Median and quartiles of at most {_LARGE_ROUNDS} rounds, of wall time with all threads."
    return FurtherTable(Section("Ten times the data", tuple(rows), note, {"measurement": measured}), tuple(judged))


def _milliseconds(measured: Measurement, name: str) -> Spread:
    return Spread.of([1000 / rate for rate in measured[name].rates])
