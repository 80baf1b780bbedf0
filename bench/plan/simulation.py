"""GPUs that wait, event by event: readers, decoders, a prefetch queue, steps that vary, a collective of all ranks.

Each rank has a reader, which shares its host's disk with the other ranks, a decoder whose time a batch is that of all
its threads, and a step that takes a batch, computes, and then waits for the slowest rank. Times vary log-normally,
drawn from the seed, so the same setup gives the same numbers.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import simpy

_WARM_UP = 0.1
"""Share of the steps that is left out, while the queues fill."""


@dataclass(frozen=True)
class Setup:
    """Holds what is simulated; times in seconds. A variation is a standard deviation over the mean."""

    step: float
    decode: float
    """A batch's time on all threads of one rank."""
    read: float = 0.0
    """A batch's time on the disk, which serves one rank after the other."""
    ranks: int = 1
    ranks_of_host: int = 8
    prefetch: int = 2
    """Batches that wait finished, besides the one that the decoder holds."""
    step_variation: float = 0.0
    decode_variation: float = 0.0
    collective: float = 0.0
    """Time of the exchange, once the slowest rank is there."""
    slowed: dict[int, float] = field(default_factory=dict)
    """Rank → how many times as long its steps take."""
    steps: int = 400
    seed: int = 0


class Simulated(NamedTuple):
    """Shares of a rank's time, each the mean over ranks, and steps per second."""

    waiting: float
    """For batches."""
    behind: float
    """At the collective, for slower ranks."""
    rate: float
    slowest: float
    """The greatest share of a rank that waits for batches."""

    @property
    def idle(self) -> float:
        """Returns the share of the time in which the GPUs compute nothing."""
        return self.waiting + self.behind


def simulate(setup: Setup) -> Simulated:
    """Runs the steps and returns what was seen after the warm-up."""
    world = simpy.Environment()
    barrier = _Barrier(world, setup.ranks)
    disks = [simpy.Resource(world) for _ in range(-(-setup.ranks // setup.ranks_of_host))]
    ranks = [_Rank(world, setup, rank, disks[rank // setup.ranks_of_host], barrier) for rank in range(setup.ranks)]
    world.run(simpy.AllOf(world, [rank.trains for rank in ranks]))
    elapsed = ranks[0].ended - ranks[0].began
    waiting = np.array([rank.waited for rank in ranks]) / elapsed
    behind = np.array([rank.behind for rank in ranks]) / elapsed
    counted = setup.steps - round(_WARM_UP * setup.steps)
    return Simulated(float(waiting.mean()), float(behind.mean()), counted / elapsed, float(waiting.max()))


class _Barrier:
    """Lets all ranks go on at once, when the last one has come."""

    def __init__(self, world: simpy.Environment, ranks: int) -> None:
        self._world, self._ranks = world, ranks
        self._come, self._open = 0, world.event()

    def come(self) -> simpy.Event:
        """Returns what happens when all have come."""
        self._come += 1
        opened = self._open
        if self._come == self._ranks:
            self._come, self._open = 0, self._world.event()
            opened.succeed()
        return opened


class _Rank:
    """One rank's reader, decoder and steps."""

    def __init__(
        self, world: simpy.Environment, setup: Setup, rank: int, disk: simpy.Resource, barrier: _Barrier
    ) -> None:
        self._world, self._setup, self._disk, self._barrier = world, setup, disk, barrier
        self._slower = setup.slowed.get(rank, 1.0)
        drawn = np.random.default_rng((setup.seed, rank))
        self._decodes = _times(drawn, setup.decode, setup.decode_variation, setup.steps)
        self._steps = _times(drawn, self._slower * setup.step, setup.step_variation, setup.steps)
        self._read = simpy.Store(world, capacity=1)
        self._ready = simpy.Store(world, capacity=setup.prefetch)
        self.waited = self.behind = self.began = self.ended = 0.0
        world.process(self._reads())
        world.process(self._makes())
        self.trains = world.process(self._trains())

    def _reads(self) -> Generator[Any, Any, None]:
        for number in range(self._setup.steps):
            if self._setup.read:
                with self._disk.request() as turn:
                    yield turn
                    yield self._world.timeout(self._setup.read)
            yield self._read.put(number)

    def _makes(self) -> Generator[Any, Any, None]:
        for seconds in self._decodes:
            yield self._read.get()
            yield self._world.timeout(seconds)
            yield self._ready.put(seconds)

    def _trains(self) -> Generator[Any, Any, None]:
        warm = round(_WARM_UP * self._setup.steps)
        for number, seconds in enumerate(self._steps):
            if number == warm:
                self.waited = self.behind = 0.0
                self.began = self._world.now
            asked = self._world.now
            yield self._ready.get()
            self.waited += self._world.now - asked
            yield self._world.timeout(seconds)
            done = self._world.now
            yield self._barrier.come()
            self.behind += self._world.now - done
            if self._setup.collective:
                yield self._world.timeout(self._setup.collective)
        self.ended = self._world.now


def _times(drawn: np.random.Generator, mean: float, variation: float, count: int) -> list[float]:
    """Returns log-normal times of this mean and variation; all equal where there is none."""
    if not variation or not mean:
        return [mean] * count
    width = np.sqrt(np.log1p(variation**2))
    times: list[float] = (mean * drawn.lognormal(-(width**2) / 2, width, count)).tolist()
    return times
