"""Which sample comes when: a pure function of (seed, stream, epoch, position), for any number of ranks.

A *step* consumes ``batch`` consecutive samples of its stream's order; *group* g of a step is always the g-th slice of
``batch / groups`` of them, whichever rank and accumulation round computes it. So 8, 4 or 1 GPU see the same
groups.
"""

from collections.abc import Container, Iterator
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipelines import keyed_random
from pipelines.errors import DataError


class Stream(IntEnum):
    """First word of every key after the seed: the streams never share a draw."""

    LABELED = 0
    UNLABELED = 1
    EVALUATION = 2


class Draws(NamedTuple):
    """The samples of one group, int64 [n]: listing positions, and which pass over the stream's set each belongs to.

    They are the entries ``start`` … ``start + n - 1`` of ``epoch``, counted over all ranks.
    """

    index: NDArray[np.int64]  # type: ignore[assignment]  # tuple.index is not missed
    passes: NDArray[np.int64]
    epoch: int = 0
    start: int = 0


@runtime_checkable
class Order(Protocol):
    """What a source follows."""

    seed: int
    stream: Stream

    def __len__(self) -> int:
        """Groups per epoch on this rank."""
        ...

    def groups(self, epoch: int, position: int) -> Iterator[Draws]:
        """This rank's groups from ``position`` (samples of the epoch consumed by all ranks) to the epoch's end."""
        ...

    def replaced(self, draws: Draws, bad: Container[int]) -> Draws | None:
        """``draws`` without the samples in ``bad``; None where this order's samples cannot be replaced."""
        ...


def permutation(seed: int, stream: Stream, pass_: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """``positions`` in the order of one pass: sorted by a keyed hash of each, so independent of the given order."""
    keys = keyed_random.bits(seed, stream, pass_, positions)
    return positions[np.lexsort((positions, keys))]


class TrainingOrder:
    """A shuffled, endless stream cut into epochs of ``steps`` steps.

    ``continuous=False`` (unlabeled): epoch e is the start of permutation e, each sample at most once; the tail that
    does not fill a step is dropped, another one each epoch.
    ``continuous=True`` (labeled): permutations follow each other without a gap, nothing is dropped, and a new
    epoch goes on where the last one ended; a set smaller than a batch wraps.
    """

    def __init__(
        self,
        positions: NDArray[np.int64],
        *,
        seed: int,
        stream: Stream,
        batch: int,
        groups: int,
        steps: int,
        continuous: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch % groups or groups % world:
            raise ValueError(f"{batch=} must divide into {groups=}, and those over {world=} ranks.")
        if len(positions) == 0:
            raise DataError(f"The {stream.name.lower()} set is empty: there is nothing to train on.")
        if not continuous and steps * batch > len(positions):
            raise DataError(
                f"{steps} steps of {batch} samples need {steps * batch} {stream.name.lower()} samples, "
                f"but there are {len(positions)}. Use a smaller batch."
            )
        self.seed, self.stream = seed, stream
        self.batch, self.steps, self.continuous = batch, steps, continuous
        self.positions = np.asarray(positions, np.int64)
        self._group = batch // groups
        self._own_groups = range(rank * groups // world, (rank + 1) * groups // world)
        self._permutation = lru_cache(maxsize=2)(self._permute)  # a batch may touch two passes

    def _permute(self, pass_: int) -> NDArray[np.int64]:
        return permutation(self.seed, self.stream, pass_, self.positions)

    def __len__(self) -> int:
        return self.steps * len(self._own_groups)

    def draws(self, epoch: int, start: int, count: int) -> Draws:
        """``count`` samples of ``epoch`` from ``start`` on."""
        at = np.arange(start, start + count)
        if self.continuous:
            passes, offsets = np.divmod(epoch * self.steps * self.batch + at, len(self.positions))
        else:
            passes, offsets = np.full(count, epoch), at
        index = np.empty(count, np.int64)
        for pass_ in np.unique(passes):
            chosen = passes == pass_
            index[chosen] = self._permutation(int(pass_))[offsets[chosen]]
        return Draws(index, passes.astype(np.int64), epoch, start)

    def replaced(self, draws: Draws, bad: Container[int]) -> Draws:
        """Each bad sample gives way to the next good one of the epoch's order, with its own index and pass.

        So what replaces it depends neither on the pipeline nor on ranks or resuming.
        """
        index, passes = draws.index.copy(), draws.passes.copy()
        epoch_length = self.steps * self.batch
        for slot in [slot for slot, sample in enumerate(index.tolist()) if sample in bad]:
            for ahead in range(1, epoch_length):
                instead = self.draws(draws.epoch, (draws.start + slot + ahead) % epoch_length, 1)
                if int(instead.index[0]) not in bad:
                    index[slot], passes[slot] = instead.index[0], instead.passes[0]
                    break
            else:
                raise DataError(f"No file of the {self.stream.name.lower()} set can be decoded.")
        return Draws(index, passes, draws.epoch, draws.start)

    def groups(self, epoch: int, position: int) -> Iterator[Draws]:
        if position % self.batch:
            raise ValueError(f"{position=} is not a whole number of steps of {self.batch} samples.")
        for step in range(position // self.batch, self.steps):
            for group in self._own_groups:
                yield self.draws(epoch, step * self.batch + group * self._group, self._group)


class EvaluationOrder:
    """Every sample once over all ranks, in listing order, the last batch short: rank r has samples r, r + world, …"""

    stream = Stream.EVALUATION
    seed = 0  # nothing is drawn

    def __init__(self, positions: NDArray[np.int64], *, batch: int, rank: int = 0, world: int = 1) -> None:
        self.positions = np.asarray(positions, np.int64)
        self._own = self.positions[rank::world]
        self._batch, self._world = batch, world

    def __len__(self) -> int:
        return -(-len(self._own) // self._batch)

    def groups(self, epoch: int, position: int) -> Iterator[Draws]:
        for start in range(position // self._world, len(self._own), self._batch):
            index = self._own[start : start + self._batch]
            yield Draws(index, np.zeros_like(index))

    def replaced(self, draws: Draws, bad: Container[int]) -> None:
        """Nothing replaces a validation image: the accuracy would be that of another set."""
