"""Pairs the labeled and the unlabeled source into batches, a few ahead of the training step."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import NamedTuple

import torch

from pipelines.batch import Batch, Source
from pipelines.sources.hand_over import making_thread, take

_END = object()
_ASK = 1.0
"""Seconds between two questions whether to wait on."""


class _Ready(NamedTuple):
    """A batch, and on a GPU the event of its making: the work on it is queued, not done."""

    batch: Batch
    made: torch.cuda.Event | None

    def taken(self) -> Batch:
        """Returns the batch; on a GPU the current stream waits for its making, the host does not."""
        if self.made is not None:
            take([*chain(*self.batch)], self.made)
        return self.batch


class Feed:
    """Batches of one epoch after another; a background thread keeps ``prefetch`` of them ready on ``device``.

    An error in a source is raised in the consumer, at the batch that it spoilt.
    """

    def __init__(self, labeled: Source, unlabeled: Source, *, prefetch: int, device: str = "cpu") -> None:
        if len(labeled) != len(unlabeled):
            raise ValueError(f"The sources differ in groups per epoch: {len(labeled)} and {len(unlabeled)}.")
        if prefetch < 1:
            raise ValueError(f"At least one batch must be prepared ahead (got {prefetch=}).")
        self._labeled, self._unlabeled, self._prefetch = labeled, unlabeled, prefetch
        self._device = torch.device(device)
        self._left: threading.Thread | None = None  # one that did not answer

    def __len__(self) -> int:
        """Batches (groups of this rank) per whole epoch."""
        return len(self._unlabeled)

    def seek(self, epoch: int, labeled: int, unlabeled: int) -> None:
        """Makes the next iteration begin in ``epoch`` after so many samples of each stream, counted over all ranks."""
        self._labeled.seek(epoch, labeled)
        self._unlabeled.seek(epoch, unlabeled)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    @property
    def hangs(self) -> bool:
        """Whether a source still has not answered to an iteration that gave it up."""
        return self._left is not None and self._left.is_alive()

    def batches(self, give_up: Callable[[], bool] = lambda: False) -> Generator[Batch]:
        """Yields the batches of one epoch; ends early where ``give_up``, asked while it waits, answers True."""
        ready: queue.Queue[_Ready | BaseException | object] = queue.Queue(self._prefetch)
        stop = threading.Event()

        def put(item: _Ready | BaseException | object) -> bool:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def produce() -> None:
            try:
                with making_thread(self._device) as stream:
                    for pair in zip(self._labeled, self._unlabeled, strict=True):
                        if not put(_Ready(Batch(*pair), stream.record_event() if stream is not None else None)):
                            return
                put(_END)
            except BaseException as error:  # handed over, not swallowed
                put(error)

        def next_batch() -> Batch | None:
            while True:
                try:
                    item = ready.get(timeout=_ASK)
                    break
                except queue.Empty:
                    if give_up():
                        self._left = producer
                        return None
            if isinstance(item, BaseException):
                raise item
            return item.taken() if isinstance(item, _Ready) else None

        producer = threading.Thread(target=produce, name="feed", daemon=True)
        producer.start()
        try:
            yield from iter(next_batch, None)  # nothing here holds the batch that is worked on
        finally:  # also where the epoch is cut short
            stop.set()
            if self._left is not producer:
                producer.join()

    def close(self) -> None:
        self._labeled.close()
        self._unlabeled.close()
