"""Further questions to the loaders: more cores, files that are not in memory, ten times the data."""

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import bars, corpus, report
from bench.four_views import beton, checked, epoch_of, open_feed
from bench.loader import page_cache
from bench.measure import Contestant, Measurement, Spread, measure
from bench.yardsticks.decode_only import DecodeOnly
from pipelines.feed import Feed
from pipelines.samples.listing import Listing, list_images


class Setting(NamedTuple):
    """What the parts share with the main table."""

    root: Path
    listing: Listing
    folder: Path  # where corpora lie
    names: list[str]  # of the pipelines that can be opened
    threads: int
    rounds: int


class Part(NamedTuple):
    """A further table, and the bars that it decides."""

    section: report.Section
    judged: tuple[bars.Row, ...] = ()


def scaling(setting: Setting) -> Part:
    """Each pipeline's rate on 1 core to all, with as many threads, beside what decoding alone makes of more cores.

    The whole process is confined to these cores: feed, plans and consumer beside the threads, too.
    """
    cores = sorted(os.sched_getaffinity(0))
    steps = [count for count in (2**power for power in range(20)) if count < setting.threads] + [setting.threads]
    paths = [setting.listing.path(index) for index in range(len(setting.listing))]
    with ExitStack() as opened:
        opened.callback(_confine, cores)
        contestants = []
        for count in steps:
            limit = DecodeOnly(paths, count)
            opened.callback(limit.close)
            setup = partial(_confine, cores[:count])
            run = checked(bars.LIMIT, limit.epoch, setting.listing)
            contestants.append(Contestant(_on(bars.LIMIT, count), run, setup))
            for name in setting.names:
                feed = open_feed(name, setting.listing, setting.root, count)
                opened.callback(feed.close)
                run = checked(name, epoch_of(feed), setting.listing)
                contestants.append(Contestant(_on(name, count), run, setup))
        measured = measure(contestants, unit="images/s", rounds=setting.rounds)
    rows = [("", *(f"{count} cores" if count > 1 else "1 core" for count in steps))]
    for name in (bars.LIMIT, *setting.names):
        one = measured[_on(name, 1)]
        each = [measured[_on(name, count)] for count in steps]
        rows.append((name, *(f"{series.rate.median:,.0f}: {report.ratio(series, one, False)}" for series in each)))
    note = (
        "images/s, and the multiple of one core's rate. So many cores are all that the process has, for feed, plans, "
        "consumer and threads, of which each source gets one per core."
    )
    ends = [[measured[_on(name, count)] for count in (1, setting.threads)] for name in setting.names]
    limits = [measured[_on(bars.LIMIT, count)] for count in (1, setting.threads)]
    judged = [bars.speed_up(name, *of, *limits) for name, of in zip(setting.names, ends, strict=True)]
    return Part(report.Section("Cores", tuple(rows), note, {"measurement": measured}), tuple(judged))


def _on(name: str, cores: int) -> str:
    return f"{name}, {cores} cores"


def _confine(cores: Sequence[int]) -> None:
    """Give all threads of this process these cores; those that they start inherit them."""
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread.name), cores)


def cold(setting: Setting) -> Part:
    """Each pipeline with its files in the page cache, and with none of them there.

    Raises DataError where the file system keeps them in memory.
    """
    files = [setting.listing.path(index) for index in range(len(setting.listing))]
    if "ffcv" in setting.names:
        files.append(beton(setting.root, setting.threads))
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
            current.append(open_feed(name, setting.listing, setting.root, setting.threads, cache="page"))

        def run() -> int:
            return checked(name, epoch_of(current[0]), setting.listing)()

        return Contestant(f"{name}, {'cold' if forget else 'warm'}", run, setup)

    try:
        contestants = [reopened(name, forget) for name in setting.names for forget in (False, True)]
        measured = measure(contestants, unit="images/s", rounds=setting.rounds)
    finally:
        close()
    rows: list[tuple[str, ...]] = [("", "warm, images/s", "cold, images/s", "cold against warm")]
    for name in setting.names:
        warm, from_disk = measured[f"{name}, warm"], measured[f"{name}, cold"]
        rates = [f"{s.rate.median:,.0f} ({s.rate.low:,.0f}–{s.rate.high:,.0f})" for s in (warm, from_disk)]
        rows.append((name, *rates, report.ratio(from_disk, warm, False)))
    note = (
        "Cold: the corpus's pages are dropped (posix_fadvise, checked with mincore) before each run. Both open the "
        "pipeline anew, so these are rates of a first epoch; ffcv with ffcv.cache=page. What the disk behind "
        "the machine keeps is not known."
    )
    return Part(report.Section("Cold and warm page cache", tuple(rows), note, {"measurement": measured}))


def ten_times(setting: Setting) -> Part:
    """The cost of an image where the corpus is ten times as large: more pieces of the same photographs."""
    small = setting.listing
    root = corpus.build(setting.folder, 10 * len(small))
    large = list_images(root / "train")
    with ExitStack() as opened:
        contestants = []
        for name in setting.names:
            for listing, place in ((small, setting.root), (large, root)):
                feed = open_feed(name, listing, place, setting.threads)
                opened.callback(feed.close)
                run = checked(name, epoch_of(feed), listing)
                contestants.append(Contestant(f"{name}, {len(listing)} images", run))
        measured = measure(contestants, unit="images/s", rounds=setting.rounds)
    headings = (f"ms per image, {len(small)}", f"ms per image, {len(large)}", "ratio")
    rows: list[tuple[str, ...]] = [("", *headings)]
    judged = []
    for name in setting.names:
        few, many = (_milliseconds(measured, f"{name}, {len(listing)} images") for listing in (small, large))
        shown = [f"{spread.median:.3f} ({spread.low:.3f}–{spread.high:.3f})" for spread in (few, many)]
        rows.append((name, *shown, f"{many.median / few.median:.3f}×"))
        judged.append(bars.flat(name, few, many))
    note = "Median and quartiles, of wall time with all threads."
    return Part(report.Section("Ten times the data", tuple(rows), note, {"measurement": measured}), tuple(judged))


def _milliseconds(measured: Measurement, name: str) -> Spread:
    return Spread.of([1000 / rate for rate in measured[name].rates])
