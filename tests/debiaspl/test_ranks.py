"""Two ranks are one rank that computes all groups: to rounding in float64, overflow of float16 included."""

import sys

import pytest
import torch

from debiaspl.step import METRICS
from tests.support.runs import run
from tests.support.steps import relative_error
from tests.support.two_ranks import CASES


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Per case and number of processes, what they leave behind."""
    folder = tmp_path_factory.mktemp("ranks")
    done = run([sys.executable, "-m", "tests.support.two_ranks", str(folder)])
    assert done.returncode == 0, done.stderr[-3000:]
    return {(case, world): torch.load(folder / case / f"{world}.pt") for case in CASES for world in (1, 2)}


@pytest.mark.parametrize("compat", ["upstream", "paper"])
def test_two_ranks_with_two_groups_each_equal_one_with_four(left, compat):
    one, two = left[compat, 1], left[compat, 2]
    assert one.keys() == two.keys()
    assert {"phat", "metrics", "student.trunk.bn1.running_mean", "teacher.trunk.bn1.running_var"} <= one.keys()
    assert {"momentum.head.weight", "student.trunk.bn1.num_batches_tracked"} <= one.keys()
    assert two["everywhere"]
    assert len(one["metrics"][:, METRICS.index("mask_rate")].unique()) >= 3  # p̂ and the thresholds are at work
    for name, value in one.items():
        assert value.dtype in (torch.float64, torch.int64, torch.bool) or name == "scale", name
        assert relative_error(two[name], value) < 1e-9, name


def test_an_overflow_on_one_rank_skips_the_step_on_both(left):
    """The infinite gradient of one group reaches all ranks in the sum, before anyone looks for it."""
    one, two = left["overflow", 1], left["overflow", 2]
    assert one["scale"] == two["scale"] == 2.0**15
    assert two["everywhere"]
    torch.testing.assert_close(two["metrics"], one["metrics"], rtol=1e-2, atol=1e-2)
    assert all(value.double().isfinite().all() for value in two.values())
