"""Interleaved measurement: the contestants take turns, in a rotated order each round, so that drift hits all alike.

Compared are medians; the spread is the inter-quartile range. A ratio is one of medians, its spread that of the ratios
within each round, where both contestants met the same state of the machine.

A contestant's clock runs until this process is quiet: what it prepares ahead for its own next turn (DALI fills its
queue past an epoch's end) is its own work, and would otherwise be done for nothing, in the next contestant's time.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

_POLL = 0.01
"""Seconds between two looks at whether the process is quiet."""
_QUIET = 0.1
"""Share of one core below which it is."""
_PATIENCE = 30.0
"""Seconds after which work in the background counts as endless."""


def _nothing() -> None:
    """Prepares nothing."""


def _busy() -> bool:
    """Returns whether some thread of this process was computing during the last moment."""
    before = time.process_time()
    time.sleep(_POLL)
    return time.process_time() - before > _QUIET * _POLL


@dataclass(frozen=True)
class Contestant:
    """Something to measure."""

    name: str
    run: Callable[[], int]
    """One round's work; returns how many units it did."""
    setup: Callable[[], object] = _nothing
    """Called before each run, outside the clock."""


@dataclass(frozen=True)
class Sample:
    """One timed run."""

    round: int
    turn: int
    """Place within the round, from 0."""
    units: int
    seconds: float
    process: int = 0
    """Number of the process that it was made in, from 0."""

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.seconds


@dataclass(frozen=True)
class Spread:
    """A median, or ratio of medians, with the quartiles about it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.float64]) -> "Spread":
        """Returns the median and quartiles of ``values``."""
        low, median, high = np.percentile(values, [25, 50, 75]).tolist()
        return cls(median, low, high)


@dataclass(frozen=True)
class Series:
    """All samples of one contestant, in the order of the rounds."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def rates(self) -> list[float]:
        """Units per second, one a round."""
        return [sample.rate for sample in self.samples]

    @property
    def rate(self) -> Spread:
        """Median and quartiles of the rates."""
        return Spread.of(self.rates)

    def ratio(self, baseline: "Series") -> Spread:
        """Returns how many times the baseline's rate this one's is."""
        each = Spread.of(np.divide(self.rates, baseline.rates))
        return Spread(self.rate.median / baseline.rate.median, each.low, each.high)


@dataclass(frozen=True)
class Measurement:
    """What ``measure`` found."""

    unit: str
    rounds: int
    warmup: int
    series: tuple[Series, ...]

    @property
    def processes(self) -> int:
        """Returns how many processes the samples were made in."""
        return len({sample.process for series in self.series for sample in series.samples})

    def __getitem__(self, name: str) -> Series:
        return next(series for series in self.series if series.name == name)


def turns(contestants: int, round_: int) -> list[int]:
    """Returns the contestants' numbers in the order of one round: each round begins with the next one."""
    return [(round_ + turn) % contestants for turn in range(contestants)]


def measure(
    contestants: Sequence[Contestant],
    *,
    unit: str,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    busy: Callable[[], bool] = _busy,
) -> Measurement:
    """Times every contestant once a round; the samples of the first ``warmup`` rounds are thrown away.

    Raises ValueError for equal names and for no rounds, RuntimeError if a contestant never falls quiet.
    """
    if len({contestant.name for contestant in contestants}) != len(contestants):
        raise ValueError(f"Contestants must differ in name (got {[contestant.name for contestant in contestants]}).")
    if rounds < 1 or warmup < 0:
        raise ValueError(f"Measuring takes at least one round (got {rounds=}, {warmup=}).")
    samples: list[list[Sample]] = [[] for _ in contestants]
    with tqdm(total=(warmup + rounds) * len(contestants), unit=" runs", leave=False, disable=None) as bar:
        for round_ in range(-warmup, rounds):
            for turn, number in enumerate(turns(len(contestants), round_ + warmup)):
                contestant = contestants[number]
                stage = "warm-up" if round_ < 0 else f"round {round_ + 1}/{rounds}"
                bar.set_description(f"{stage}: {contestant.name}")
                sample = _timed(contestant, round_, turn, clock, busy)
                if round_ >= 0:
                    samples[number].append(sample)
                bar.update()
    pairs = zip(contestants, samples, strict=True)
    return Measurement(unit, rounds, warmup, tuple(Series(each.name, tuple(own)) for each, own in pairs))


def _timed(
    contestant: Contestant, round_: int, turn: int, clock: Callable[[], float], busy: Callable[[], bool]
) -> Sample:
    contestant.setup()
    begin = clock()
    units = contestant.run()
    done = end = clock()
    while busy():  # where it is quiet at once, looking costs the contestant nothing
        end = clock()
        if end - done > _PATIENCE:
            raise RuntimeError(
                f"{contestant.name} still computes {_PATIENCE:.0f} s after its turn: nothing is measurable."
            )
    return Sample(round_, turn, units, end - begin)
