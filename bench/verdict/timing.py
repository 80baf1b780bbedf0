"""Seconds of a step, of steps that are counted once they run evenly: of a loader, a step, or both together."""

import time
from collections.abc import Callable, Generator, Iterator
from itertools import cycle, islice
from typing import NamedTuple

from pipelines.batch import Batch
from pipelines.sources.feed import Feed

WARM_UP = 4
"""Steps before the clock starts: as many batches as source and feed hold between them."""
FEWEST = 3
"""Steps that are counted at least."""
_KEPT = 2
"""Batches that are replayed in turns."""

Take = Callable[[Batch, int], object]


class Timed(NamedTuple):
    """Holds what was seen of some steps."""

    seconds: float
    """Of one step, on average."""
    steps: int
    busy: float
    """Cores that this process kept busy, on average."""


def timed(
    batches: Iterator[Batch],
    step: Take,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    cpu: Callable[[], float] = time.process_time,
) -> Timed:
    """Takes batches for so many ``seconds``, each through ``step``, and returns the time of one."""
    for number, batch in enumerate(islice(batches, WARM_UP)):
        step(batch, number)
    begin, computed, steps = clock(), cpu(), 0
    for batch in batches:
        step(batch, WARM_UP + steps)
        steps += 1
        if steps >= FEWEST and clock() - begin >= seconds:
            break
    elapsed = clock() - begin
    return Timed(elapsed / steps, steps, (cpu() - computed) / elapsed)


def epochs(feed: Feed) -> Generator[Batch]:
    """Yields the batches of one epoch after another, without end; closed, it stops the feed."""
    while True:
        yield from feed


def replayed(feed: Feed) -> Iterator[Batch]:
    """Yields the first batches again and again, without end; nothing is loaded meanwhile."""
    return cycle(list(islice(feed, _KEPT)))


def no_step(batch: Batch, number: int) -> None:
    """Takes a batch and does nothing with it."""
