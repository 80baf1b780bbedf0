"""The simulation against cases whose answer is known in closed form."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from bench.plan.simulation import Setup, simulate


@pytest.mark.parametrize("decode", [0.5, 0.9, 1.0])
def test_a_loader_that_is_as_fast_keeps_its_gpu_busy(decode: float) -> None:
    found = simulate(Setup(step=1.0, decode=decode))
    assert found.waiting == pytest.approx(0, abs=1e-9)
    assert found.rate == pytest.approx(1)


@pytest.mark.parametrize("decode", [1.25, 2.0, 4.0])
def test_a_slower_loader_sets_the_pace(decode: float) -> None:
    found = simulate(Setup(step=1.0, decode=decode))
    assert found.waiting == pytest.approx(1 - 1 / decode, abs=1e-6)
    assert found.rate == pytest.approx(1 / decode)


def test_ranks_of_a_host_share_its_disk() -> None:
    """Four ranks read 0.5 s each in turn: 2 s a step, of which a GPU waits one; alone none of it shows."""
    shared = simulate(Setup(step=1.0, decode=0.1, read=0.5, ranks=4))
    assert shared.rate == pytest.approx(0.5, rel=0.01)
    assert shared.idle == pytest.approx(0.5, abs=0.01)
    assert simulate(Setup(step=1.0, decode=0.1, read=0.5)).idle == pytest.approx(0, abs=1e-9)
    apart = simulate(Setup(step=1.0, decode=0.1, read=0.5, ranks=4, ranks_of_host=2))
    assert apart.idle == pytest.approx(0, abs=1e-6)


def test_all_wait_for_a_slowed_rank() -> None:
    found = simulate(Setup(step=1.0, decode=0.1, ranks=2, slowed={1: 1.5}))
    assert found.rate == pytest.approx(1 / 1.5)
    assert found.behind == pytest.approx((0.5 / 1.5 + 0) / 2)  # one rank of two waits a third of its time
    assert found.waiting == pytest.approx(0, abs=1e-9)


def test_the_collective_costs_its_time() -> None:
    assert simulate(Setup(step=1.0, decode=0.1, ranks=2, collective=0.25)).rate == pytest.approx(1 / 1.25)


@pytest.mark.parametrize("ranks", [2, 8])
def test_a_step_lasts_as_long_as_the_slowest_of_its_ranks(ranks: int) -> None:
    """The mean of the greatest of n log-normal times, here from a million of them."""
    variation = 0.2
    width = sqrt(np.log1p(variation**2))
    drawn = np.random.default_rng(1).lognormal(-(width**2) / 2, width, (125_000, ranks)).max(1).mean()
    found = simulate(Setup(step=1.0, decode=0.01, ranks=ranks, step_variation=variation, steps=3000))
    assert 1 / found.rate == pytest.approx(drawn, rel=0.01)


def test_a_deeper_queue_hides_more_of_an_uneven_loader() -> None:
    """With room for one batch a step waits at least for E[max(step, decode)]; a deep queue waits for almost nothing."""
    uneven = Setup(step=1.0, decode=0.9, decode_variation=0.5, steps=4000)
    waits = [simulate(replace(uneven, prefetch=prefetch)).waiting for prefetch in (1, 4, 32)]
    assert waits[0] > waits[1] > waits[2]
    assert waits[2] < 0.02 < waits[0]


def test_the_same_seed_gives_the_same_numbers() -> None:
    setup = Setup(step=1.0, decode=1.0, decode_variation=0.3, step_variation=0.1, ranks=2)
    assert simulate(setup) == simulate(setup)
    assert simulate(replace(setup, seed=1)) != simulate(setup)
