"""Rates on one core to all: what each pipeline makes of more cores, beside what decoding alone makes of them.

The whole process is confined to the cores, feed, plans and consumer as well as the sources' threads; no contestant
here has processes of its own. How many cores each kept busy is measured and shown.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np

from bench.four_views import Epoch, checked, epoch_of, open_feed
from bench.loader import bars
from bench.loader.further import Corpus, FurtherTable
from bench.measure import Contestant, Measurement, measure
from bench.report import Section, ratio
from bench.report.bars import Judged
from bench.report.contents import Cells
from bench.yardsticks.decode_only import DecodeOnly

_TOLERANCE = 1.1
"""CPU time over wall time and cores; more than 1 but for the clocks' rounding shows that confining failed."""
_NOTE = (
    "images/s, the multiple of one core's rate, and how many cores were busy on average. So many cores are all that "
    "the process has, for feed, plans, consumer and threads, of which each source gets one per core."
)


def scaling(corpus: Corpus) -> FurtherTable:
    """Measures every pipeline and decoding alone on 1, 2, 4 … cores, up to as many as there are threads."""
    steps = counts(corpus.threads)
    names = (bars.DECODE_LIMIT, *corpus.names)
    busy: dict[str, list[float]] = {_on(name, count): [] for name in names for count in steps}
    with ExitStack() as opened:
        cores = opened.enter_context(whole_process_confined())
        contestants = []
        for count in steps:
            for name in names:
                run = checked(name, _open(name, corpus, count, opened), corpus.listing)
                watched = _watched(run, busy[_on(name, count)], count)
                contestants.append(Contestant(_on(name, count), watched, partial(confine, cores[:count])))
        measured = measure(contestants, unit="images/s", rounds=corpus.rounds)
    medians = {name: float(np.median(each)) for name, each in busy.items()}
    rows = (("", *(_cores(count) for count in steps)), *(_row(name, steps, measured, medians) for name in names))
    raw: dict[str, object] = {"measurement": measured, "cores busy": medians}
    judged = tuple(_judged(name, steps, measured) for name in corpus.names)
    return FurtherTable(Section("Cores", rows, _NOTE, raw), judged)


def counts(most: int) -> list[int]:
    """Returns 1, 2, 4 … below ``most``, and ``most`` itself."""
    return [count for count in (2**power for power in range(20)) if count < most] + [most]


@contextmanager
def whole_process_confined() -> Iterator[list[int]]:
    """Yields the cores that this process may use, and gives them back to all its threads at the end."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        yield cores
    finally:
        confine(cores)


def confine(cores: Sequence[int]) -> None:
    """Gives all threads of this process these cores; those that they start later inherit them."""
    wanted = set(cores)
    changed = True
    while changed:  # again, until no thread was started by one that had not been reached yet
        changed = False
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # it has just ended
                if os.sched_getaffinity(int(thread.name)) != wanted:
                    os.sched_setaffinity(int(thread.name), wanted)
                    changed = True


def _open(name: str, corpus: Corpus, threads: int, opened: ExitStack) -> Epoch:
    """Opens a contestant with so many threads and returns its epoch; ``opened`` closes it."""
    if name == bars.DECODE_LIMIT:
        limit = DecodeOnly([corpus.listing.path(index) for index in range(len(corpus.listing))], threads)
        opened.callback(limit.close)
        return limit.epoch
    feed = open_feed(name, corpus.listing, corpus.root, threads)
    opened.callback(feed.close)
    return epoch_of(feed)


def _watched(run: Callable[[], int], busy: list[float], cores: int) -> Callable[[], int]:
    """Returns ``run``, which then also notes how many cores it kept busy; RuntimeError if more than it should have."""

    def watched() -> int:
        begin, computed = time.perf_counter(), time.process_time()
        units = run()
        busy.append((time.process_time() - computed) / (time.perf_counter() - begin))
        if busy[-1] > _TOLERANCE * cores:
            raise RuntimeError(f"{busy[-1]:.2f} cores were busy where {cores} should be: nothing is measurable.")
        return units

    return watched


def _row(name: str, steps: Sequence[int], measured: Measurement, busy: dict[str, float]) -> Cells:
    one = measured[_on(name, 1)]
    found = [(measured[_on(name, count)], busy[_on(name, count)]) for count in steps]
    return (name, *(f"{s.rate.median:,.0f}: {ratio(s, one, False)}; {used:.2f} busy" for s, used in found))


def _judged(name: str, steps: Sequence[int], measured: Measurement) -> Judged:
    of = (measured[_on(each, count)] for each in (name, bars.DECODE_LIMIT) for count in (steps[0], steps[-1]))
    return bars.speed_up(name, *of)


def _on(name: str, count: int) -> str:
    return f"{name}, {_cores(count)}"


def _cores(count: int) -> str:
    return f"{count} cores" if count > 1 else "1 core"
