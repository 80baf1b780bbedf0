"""The feed: labeled and unlabeled groups in step, errors at the batch they spoilt, and no thread left behind."""

import threading
import time
from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from pipelines.batch import Batch, Source, Views
from pipelines.sources.feed import Feed
from tests.support.leaks import comes_true


class Numbered(Source):
    """Groups of one sample whose index is its number: epoch · 100 + place, plus ``offset``."""

    def __init__(
        self, length: int = 5, offset: int = 0, *, fails_at: int | None = None, error: BaseException | None = None
    ):
        self.length, self.offset, self.fails_at, self.error = length, offset, fails_at, error
        self.epoch = self.consumed = 0
        self.sought: list[tuple[int, int]] = []
        self.made = 0
        self.closed = 0
        self.ended = 0

    def __len__(self) -> int:
        return self.length

    def seek(self, epoch: int, consumed: int) -> None:
        self.sought.append((epoch, consumed))
        self.epoch, self.consumed = epoch, consumed

    def __iter__(self) -> Iterator[Views]:
        try:
            for place in range(self.consumed, self.length):
                if place == self.fails_at:
                    assert self.error is not None
                    raise self.error
                self.made += 1
                number = self.offset + 100 * self.epoch + place
                yield Views(torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8), torch.tensor([number]))
            self.epoch, self.consumed = self.epoch + 1, 0
        finally:
            self.ended += 1

    def close(self) -> None:
        self.closed += 1


def numbers(batches: list[Batch]) -> list[tuple[int, int]]:
    return [(int(batch.labeled.index), int(batch.unlabeled.index)) for batch in batches]


def feed_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "feed"]


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    assert feed_threads() == []
    yield
    assert feed_threads() == []


@pytest.mark.parametrize("prefetch", [1, 2, 100])
def test_pairs_in_order_epoch_after_epoch(prefetch: int) -> None:
    feed = Feed(Numbered(5), Numbered(5, 1000), prefetch=prefetch)
    assert len(feed) == 5
    for epoch in range(3):
        batches = list(feed)
        assert numbers(batches) == [(100 * epoch + place, 1000 + 100 * epoch + place) for place in range(5)]
        assert feed_threads() == []
    assert isinstance(batches[0], Batch)


@pytest.mark.parametrize("of", ["labeled", "unlabeled"])
@pytest.mark.parametrize("error", [ValueError("damaged.jpg"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("prefetch", [1, 8])
def test_an_error_reaches_the_consumer_at_its_batch(of: str, error: BaseException, prefetch: int) -> None:
    sources = {"labeled": Numbered(6), "unlabeled": Numbered(6, 1000), of: Numbered(6, fails_at=3, error=error)}
    batches = iter(Feed(sources["labeled"], sources["unlabeled"], prefetch=prefetch))
    got = []
    for _ in range(3):
        got.append(next(batches))
        time.sleep(0.01)  # the source fails while good batches are still waiting
    with pytest.raises(type(error)) as caught:
        next(batches)
    assert caught.value is error
    assert [(a % 1000, b % 1000) for a, b in numbers(got)] == [(0, 0), (1, 1), (2, 2)]


def test_an_error_before_the_first_batch() -> None:
    feed = Feed(Numbered(3, fails_at=0, error=OSError("gone")), Numbered(3), prefetch=2)
    with pytest.raises(OSError, match="gone"):
        next(iter(feed))


def test_the_feed_can_be_used_after_an_error() -> None:
    labeled = Numbered(4, fails_at=2, error=ValueError())
    feed = Feed(labeled, Numbered(4), prefetch=2)
    with pytest.raises(ValueError):  # noqa: PT011 (any will do)
        list(feed)
    labeled.fails_at = None
    feed.seek(0, 2, 2)
    assert numbers(list(feed)) == [(2, 2), (3, 3)]


@pytest.mark.parametrize("taken", [1, 3])
@pytest.mark.parametrize("prefetch", [1, 2, 50])
def test_an_iteration_that_is_cut_short_ends_its_thread_and_its_sources(taken: int, prefetch: int) -> None:
    labeled, unlabeled = Numbered(20), Numbered(20)
    feed = Feed(labeled, unlabeled, prefetch=prefetch)
    batches = iter(feed)
    assert numbers(list(islice(batches, taken))) == [(place, place) for place in range(taken)]
    assert prefetch == 50 or len(feed_threads()) == 1  # with so much room it may have read everything
    batches.close()  # type: ignore[attr-defined]
    assert feed_threads() == []
    assert (labeled.ended, unlabeled.ended) == (1, 1)
    feed.seek(0, taken, taken)
    assert numbers(list(feed)) == [(place, place) for place in range(taken, 20)]


def test_leaving_the_loop_ends_the_thread() -> None:
    for _ in Feed(Numbered(50), Numbered(50), prefetch=2):
        break
    assert feed_threads() == []


def test_an_iteration_that_never_began_starts_nothing() -> None:
    labeled = Numbered(5)
    batches = iter(Feed(labeled, Numbered(5), prefetch=2))
    assert feed_threads() == []
    del batches
    assert labeled.made == 0


@pytest.mark.parametrize("prefetch", [1, 4])
def test_it_works_ahead_but_not_without_bounds(prefetch: int) -> None:
    labeled, unlabeled = Numbered(1000), Numbered(1000)
    batches = iter(Feed(labeled, unlabeled, prefetch=prefetch))
    next(batches)
    comes_true(lambda: unlabeled.made >= prefetch + 2)  # one taken, prefetch ready, one in hand
    time.sleep(0.05)
    assert labeled.made == unlabeled.made == prefetch + 2
    batches.close()  # type: ignore[attr-defined]


def test_seek_is_passed_on() -> None:
    labeled, unlabeled = Numbered(10), Numbered(10, 1000)
    feed = Feed(labeled, unlabeled, prefetch=3)
    feed.seek(7, 2, 5)
    assert (labeled.sought, unlabeled.sought) == ([(7, 2)], [(7, 5)])
    feed.seek(3, 8, 8)
    assert numbers(list(feed)) == [(308, 1308), (309, 1309)]


def test_sources_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in groups per epoch: 4 and 5"):
        Feed(Numbered(4), Numbered(5), prefetch=2)


def test_a_source_that_ends_early_is_an_error() -> None:
    """Both say the same length, but one stands further on than the other."""
    labeled, unlabeled = Numbered(5), Numbered(5)
    feed = Feed(labeled, unlabeled, prefetch=2)
    unlabeled.seek(0, 2)
    got = []
    with pytest.raises(ValueError, match="shorter"):
        got.extend(feed)
    assert len(got) in (0, 3)  # list.extend keeps what came before the error


def test_close_closes_both_and_may_be_repeated() -> None:
    labeled, unlabeled = Numbered(), Numbered()
    feed = Feed(labeled, unlabeled, prefetch=2)
    list(feed)
    feed.close()
    feed.close()
    assert (labeled.closed, unlabeled.closed) == (2, 2)


def test_no_prefetch_is_refused() -> None:
    with pytest.raises(ValueError, match="prefetch=0"):
        Feed(Numbered(), Numbered(), prefetch=0)
