"""The order of samples: every sample as often as it should come, wherever entered and however split."""

from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.order import Draws, EvaluationOrder, Stream, TrainingOrder, permutation

INDICES = np.arange(100, 203)  # 103 samples: 12 steps of 8 and a tail of 7
SMALL = np.array([40, 7, 12, 3, 25])


def unlabeled(**changed: Any) -> TrainingOrder:
    given = {"indices": INDICES, "seed": 2, "stream": Stream.UNLABELED, "batch": 8, "groups": 4, "steps": 12}
    return TrainingOrder(**{**given, "continuous": False, **changed})


def labeled(**changed: Any) -> TrainingOrder:
    given = {"indices": INDICES, "seed": 2, "stream": Stream.LABELED, "batch": 8, "groups": 4, "steps": 5}
    return TrainingOrder(**{**given, "continuous": True, **changed})


def joined(groups: list[Draws]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.concatenate([g.index for g in groups]), np.concatenate([g.passes for g in groups])


def epochs(order: TrainingOrder, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices and passes of the first ``count`` epochs, one after another."""
    return joined(list(chain.from_iterable(order.groups(epoch, 0) for epoch in range(count))))


def as_lists(groups: list[Draws]) -> list[tuple[list[int], list[int]]]:
    return [(group.index.tolist(), group.passes.tolist()) for group in groups]


# --- permutations ---------------------------------------------------------------------------------------------------


def test_pinned_permutations() -> None:
    """A change of these changes what every published seed means."""
    assert permutation(0, Stream.UNLABELED, 0, np.arange(12)).tolist() == [8, 10, 11, 0, 1, 5, 3, 2, 7, 9, 6, 4]
    third = permutation(7, Stream.LABELED, 3, np.arange(12) * 3)
    assert third.tolist() == [27, 21, 6, 24, 15, 0, 33, 12, 18, 30, 9, 3]


def test_permutations_are_permutations_and_all_different() -> None:
    seen = set()
    for seed in range(3):
        for stream in (Stream.LABELED, Stream.UNLABELED):
            for pass_ in range(4):
                order = permutation(seed, stream, pass_, INDICES)
                assert sorted(order.tolist()) == INDICES.tolist()
                seen.add(tuple(order.tolist()))
    assert len(seen) == 3 * 2 * 4


def test_permutations_do_not_depend_on_the_given_order() -> None:
    shuffled = np.random.default_rng(0).permutation(INDICES)
    assert not np.array_equal(shuffled, INDICES)
    np.testing.assert_array_equal(
        permutation(1, Stream.LABELED, 0, shuffled), permutation(1, Stream.LABELED, 0, INDICES)
    )


def test_every_sample_comes_everywhere() -> None:
    """Over 2,000 passes each of 5 samples is about 400 times in each of the 5 places."""
    counts = np.zeros((5, 5), int)
    for pass_ in range(2000):
        order = permutation(0, Stream.LABELED, pass_, np.arange(5))
        counts[order, np.arange(5)] += 1
    assert np.abs(counts - 400).max() < 75  # the standard deviation is 18


# --- unlabeled ------------------------------------------------------------------------------------------------------


def test_unlabeled_epochs_are_the_starts_of_their_permutations() -> None:
    for epoch in range(3):
        index, passes = joined(list(unlabeled().groups(epoch, 0)))
        assert index.tolist() == permutation(2, Stream.UNLABELED, epoch, INDICES)[:96].tolist()
        assert set(passes.tolist()) == {epoch}


def test_unlabeled_samples_come_at_most_once_per_epoch_and_the_tail_differs() -> None:
    dropped = []
    for epoch in range(6):
        index, _ = joined(list(unlabeled().groups(epoch, 0)))
        assert len(set(index.tolist())) == len(index) == 96
        dropped.append(frozenset(INDICES.tolist()) - set(index.tolist()))
    assert {len(tail) for tail in dropped} == {7}
    assert len(set(dropped)) == 6


@pytest.mark.parametrize("make", [unlabeled, labeled])
@pytest.mark.parametrize("world", [2, 4])
def test_groups_are_the_same_whichever_rank_has_them(make: Any, world: int) -> None:
    whole = make()
    for epoch in range(3):
        parts = [as_lists(list(make(rank=rank, world=world).groups(epoch, 0))) for rank in range(world)]
        assert {len(part) for part in parts} == {whole.steps * 4 // world}
        own = 4 // world  # groups of a step on each rank
        steps = [part[step * own : (step + 1) * own] for step in range(whole.steps) for part in parts]
        assert list(chain.from_iterable(steps)) == as_lists(list(whole.groups(epoch, 0)))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_ranks_together_see_every_sample_once(world: int) -> None:
    exact = INDICES[:96]
    for epoch in range(2):
        ranks = [unlabeled(indices=exact, rank=rank, world=world) for rank in range(world)]
        index, _ = joined([group for rank in ranks for group in rank.groups(epoch, 0)])
        assert sorted(index.tolist()) == exact.tolist()


@pytest.mark.parametrize("make", [unlabeled, labeled])
def test_length_and_group_sizes(make: Any) -> None:
    for world in (1, 2, 4):
        for rank in range(world):
            order = make(rank=rank, world=world)
            groups = list(order.groups(0, 0))
            assert len(order) == len(groups) == order.steps * 4 // world
            assert {len(group.index) for group in groups} == {2}
            assert {array.dtype for group in groups for array in (group.index, group.passes)} == {np.dtype(np.int64)}


# --- labeled --------------------------------------------------------------------------------------------------------


def test_labeled_passes_follow_each_other_without_a_gap() -> None:
    """21 epochs of 40 samples are 8 passes over 103 and a bit: nothing is dropped, and no epoch starts afresh."""
    index, passes = epochs(labeled(), 21)
    assert len(index) == 840
    np.testing.assert_array_equal(passes, np.arange(840) // 103)
    for pass_ in range(9):
        expected = permutation(2, Stream.LABELED, pass_, INDICES)[: 840 - 103 * pass_]
        assert index[passes == pass_].tolist() == expected.tolist()
    # In particular, the second epoch goes on in the first permutation.
    np.testing.assert_array_equal(index[40:80], permutation(2, Stream.LABELED, 0, INDICES)[40:80])


def test_a_labeled_set_smaller_than_a_batch_wraps() -> None:
    index, passes = epochs(labeled(indices=SMALL), 3)
    np.testing.assert_array_equal(passes, np.arange(120) // 5)
    for pass_ in range(24):
        assert sorted(index[passes == pass_].tolist()) == sorted(SMALL.tolist())
    first = labeled(indices=SMALL).draws(0, 0, 8)
    assert first.passes.tolist() == [0] * 5 + [1] * 3


def test_one_labeled_sample() -> None:
    index, passes = epochs(labeled(indices=np.array([17])), 1)
    assert set(index.tolist()) == {17}
    assert passes.tolist() == list(range(40))  # a pass each: a crop of its own each time


def test_the_labeled_order_does_not_depend_on_the_length_of_epochs() -> None:
    long, short = epochs(labeled(steps=6), 5), epochs(labeled(steps=10), 3)
    np.testing.assert_array_equal(long, short)


# --- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [unlabeled, labeled])
def test_seek_is_skip_at_every_step(make: Any) -> None:
    for world in (1, 2):
        order = make(rank=world - 1, world=world)
        own = 4 // world
        for epoch in (0, 3):
            everything = as_lists(list(order.groups(epoch, 0)))
            for step in range(order.steps + 1):
                assert as_lists(list(order.groups(epoch, 8 * step))) == everything[own * step :]


@pytest.mark.parametrize("make", [unlabeled, labeled])
def test_a_resume_on_other_ranks_goes_on_where_the_first_ranks_stopped(make: Any) -> None:
    whole, _ = joined(list(make().groups(1, 0)))
    begun = [make(rank=rank, world=2) for rank in range(2)]
    rest = [make(rank=rank, world=4) for rank in range(4)]
    seen = [group for order in begun for group in list(order.groups(1, 0))[: 3 * 2]]
    seen += [group for order in rest for group in order.groups(1, 3 * 8)]
    assert sorted(joined(seen)[0].tolist()) == sorted(whole.tolist())


@pytest.mark.parametrize("make", [unlabeled, labeled])
def test_the_order_of_an_index_file_does_not_matter(make: Any) -> None:
    shuffled = np.random.default_rng(1).permutation(INDICES)
    assert as_lists(list(make(indices=shuffled).groups(2, 0))) == as_lists(list(make().groups(2, 0)))


@pytest.mark.parametrize("make", [unlabeled, labeled])
def test_seeds_streams_and_passes_differ(make: Any) -> None:
    def first(**changed: Any) -> list[int]:
        return make(**changed).draws(0, 0, 40).index.tolist()

    assert first() != first(seed=3)
    assert first(stream=Stream.LABELED) != first(stream=Stream.UNLABELED)
    assert make().draws(0, 0, 40).index.tolist() != make().draws(5, 0, 40).index.tolist()


@pytest.mark.parametrize("make", [unlabeled, labeled])
@pytest.mark.parametrize("consumed", [1, 4, 9])
def test_a_place_within_a_step_is_refused(make: Any, consumed: int) -> None:
    with pytest.raises(ValueError, match=f"consumed={consumed} is not a whole number of steps of 8 samples"):
        next(make().groups(0, consumed))


@pytest.mark.parametrize("make", [unlabeled, labeled])
@pytest.mark.parametrize("changed", [{"groups": 3}, {"groups": 16}, {"world": 3}, {"groups": 2, "world": 4}])
def test_what_does_not_divide_is_refused(make: Any, changed: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must divide into"):
        make(**changed)


@pytest.mark.parametrize("make", [unlabeled, labeled])
def test_an_empty_set_is_refused(make: Any) -> None:
    name = make().stream.name.lower()
    with pytest.raises(DataError, match=f"The {name} set is empty"):
        make(indices=np.array([], np.int64), steps=0)


def test_an_epoch_larger_than_the_unlabeled_set_is_refused() -> None:
    unlabeled(indices=INDICES[:96])
    with pytest.raises(DataError, match="12 steps of 8 samples need 96 unlabeled samples, but there are 95"):
        unlabeled(indices=INDICES[:95])


# --- evaluation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 7, 16, 200])
def test_evaluation_sees_every_sample_once_over_the_ranks(world: int, batch: int) -> None:
    seen: list[int] = []
    for rank in range(world):
        order = EvaluationOrder(INDICES, batch=batch, rank=rank, world=world)
        groups = list(order.groups(0, 0))
        index, passes = joined(groups)
        assert index.tolist() == INDICES[rank::world].tolist()
        assert not passes.any()
        sizes = [len(group.index) for group in groups]
        assert sizes[:-1] == [batch] * (len(sizes) - 1)
        assert 0 < sizes[-1] <= batch
        assert len(order) == len(groups)
        seen += index.tolist()
    assert sorted(seen) == INDICES.tolist()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_goes_on_where_it_stopped(world: int) -> None:
    """What was consumed counts all ranks' samples, and the last batches are short, on some ranks by one more."""
    for rank in range(world):
        order = EvaluationOrder(INDICES, batch=10, rank=rank, world=world)
        everything = as_lists(list(order.groups(0, 0)))
        for batches in range(len(everything) + 1):
            assert as_lists(list(order.groups(0, batches * 10 * world))) == everything[batches:]


def test_evaluation_is_the_same_in_every_epoch_and_follows_the_listing() -> None:
    order = EvaluationOrder(SMALL, batch=2)
    assert as_lists(list(order.groups(0, 0))) == as_lists(list(order.groups(9, 0)))
    assert joined(list(order.groups(0, 0)))[0].tolist() == SMALL.tolist()
    assert all(a.index[0] != b.index[0] for a, b in pairwise(order.groups(0, 0)))


def test_more_ranks_than_samples_to_evaluate() -> None:
    orders = [EvaluationOrder(SMALL[:2], batch=4, rank=rank, world=3) for rank in range(3)]
    assert [len(order) for order in orders] == [1, 1, 0]
    assert [len(list(order.groups(0, 0))) for order in orders] == [1, 1, 0]
