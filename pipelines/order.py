"""Which sample comes when: a pure function of (seed, stream, epoch, consumed), for any number of ranks.

A *step* consumes ``batch`` consecutive samples of its stream's order; *group* g of a step is always the g-th slice of
``batch / groups`` of them, whichever rank and accumulation round computes it. So 8, 4 or 1 GPU see the same
groups.
"""

from collections.abc import Container, Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipelines import keyed_random
from pipelines.errors import DataError
from pipelines.keyed_random import Stream as Stream


class Draws(NamedTuple):
    """The samples of one group, and the key that sets everything drawn for them apart from other streams.

    They are the entries ``start`` … ``start + n - 1`` of ``epoch``, counted over all ranks.
    """

    index: NDArray[np.int64]  # type: ignore[assignment]  # [n] (tuple.index is not missed)
    passes: NDArray[np.int64]  # [n] which pass over the stream's set each sample belongs to
    seed: int
    stream: Stream
    epoch: int = 0
    start: int = 0


@runtime_checkable
class Order(Protocol):
    """What a source follows."""

    indices: NDArray[np.int64]
    """The samples [N] that it orders, over all ranks."""

    def __len__(self) -> int:
        """Returns the number of groups per epoch on this rank."""
        ...

    def groups(self, epoch: int, consumed: int) -> Iterator[Draws]:
        """Yields this rank's groups of ``epoch`` that follow the ``consumed`` samples."""
        ...

    def replaced(self, draws: Draws, bad: Container[int]) -> Draws | None:
        """Returns ``draws`` without the samples in ``bad``; None where this order's samples cannot be replaced."""
        ...


def permutation(seed: int, stream: Stream, pass_: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns ``indices`` in the order of one pass: sorted by a keyed hash of each, whatever order they come in."""
    keys = keyed_random.bits(seed, stream, pass_, indices)
    return indices[np.lexsort((indices, keys))]


class TrainingOrder:
    """A shuffled, endless stream cut into epochs of ``steps`` steps.

    ``continuous=False`` (unlabeled): epoch e is the start of permutation e, each sample at most once; the tail that
    does not fill a step is dropped, another one each epoch.
    ``continuous=True`` (labeled): permutations follow each other without a gap, nothing is dropped, and a new
    epoch goes on where the last one ended; a set smaller than a batch wraps.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
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
        if len(indices) == 0:
            raise DataError(f"The {stream.name.lower()} set is empty: there is nothing to train on.")
        if not continuous and steps * batch > len(indices):
            raise DataError(
                f"{steps} steps of {batch} samples need {steps * batch} {stream.name.lower()} samples, "
                f"but there are {len(indices)}. Use a smaller batch."
            )
        self.seed, self.stream = seed, stream
        self.batch, self.steps, self.continuous = batch, steps, continuous
        self.indices = np.asarray(indices, np.int64)
        self._group = batch // groups
        self._own_groups = range(rank * groups // world, (rank + 1) * groups // world)
        self._permutation = lru_cache(maxsize=2)(self._permute)  # a batch may touch two passes

    def _permute(self, pass_: int) -> NDArray[np.int64]:
        return permutation(self.seed, self.stream, pass_, self.indices)

    def __len__(self) -> int:
        return self.steps * len(self._own_groups)

    def draws(self, epoch: int, start: int, count: int) -> Draws:
        """Returns ``count`` samples of ``epoch`` from the entry ``start`` on."""
        at = np.arange(start, start + count)
        if self.continuous:
            passes, offsets = np.divmod(epoch * self.steps * self.batch + at, len(self.indices))
        else:
            passes, offsets = np.full(count, epoch), at
        index = np.empty(count, np.int64)
        for pass_ in np.unique(passes):
            chosen = passes == pass_
            index[chosen] = self._permutation(int(pass_))[offsets[chosen]]
        return Draws(index, passes.astype(np.int64), self.seed, self.stream, epoch, start)

    def replaced(self, draws: Draws, bad: Container[int]) -> Draws:
        """Returns ``draws`` with the next good sample of the epoch's order, and its pass, in each bad one's place.

        What replaces a sample depends neither on the pipeline nor on ranks or resuming.
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
        return draws._replace(index=index, passes=passes)

    def groups(self, epoch: int, consumed: int) -> Iterator[Draws]:
        """Yields this rank's groups; raises ValueError where ``consumed`` ends within a step."""
        if consumed % self.batch:
            raise ValueError(f"{consumed=} is not a whole number of steps of {self.batch} samples.")
        for step in range(consumed // self.batch, self.steps):
            for group in self._own_groups:
                yield self.draws(epoch, step * self.batch + group * self._group, self._group)


class EvaluationOrder:
    """Every sample once over all ranks, in listing order, the last batch short: rank r has samples r, r + world, …"""

    def __init__(self, indices: NDArray[np.int64], *, batch: int, rank: int = 0, world: int = 1) -> None:
        self.indices = np.asarray(indices, np.int64)
        self._own = self.indices[rank::world]
        self._batch, self._world = batch, world

    def __len__(self) -> int:
        return -(-len(self._own) // self._batch)

    def groups(self, epoch: int, consumed: int) -> Iterator[Draws]:
        """Yields this rank's batches; those of all epochs are alike."""
        for start in range(consumed // self._world, len(self._own), self._batch):
            index = self._own[start : start + self._batch]
            yield Draws(index, np.zeros_like(index), seed=0, stream=Stream.EVALUATION)  # nothing is drawn

    def replaced(self, draws: Draws, bad: Container[int]) -> Draws | None:
        """Returns None: with another image in a bad one's place, the accuracy would be that of another set."""


class PredictionOrder(EvaluationOrder):
    """An evaluation's order for images of which some may be broken: what is asked of each is not how many are right."""

    def replaced(self, draws: Draws, bad: Container[int]) -> Draws:
        """Returns ``draws`` with a good sample, which comes once more, in each bad one's place.

        Raises DataError where no sample is good.
        """
        good = next((index for index in (*draws.index.tolist(), *self.indices.tolist()) if index not in bad), None)
        if good is None:
            raise DataError("None of the images can be decoded.")
        return draws._replace(index=np.asarray([good if index in bad else index for index in draws.index.tolist()]))
