"""Two ranks are one rank that computes all groups: to rounding in float64, overflow of float16 included."""

import os
import subprocess
import sys

import pytest
import torch

from debiaspl.step import METRICS
from tests.support.steps import relative_error


def run(folder, compat: str, precision: str) -> tuple[dict, dict]:
    """What one process and what two leave behind."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.two_ranks", *map(str, (rank, world, folder, compat, precision))],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for world in (1, 2)
        for rank in range(world)
    ]
    errors = [process.communicate(timeout=900)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(errors)[-3000:]
    return torch.load(folder / "1.pt"), torch.load(folder / "2.pt")


@pytest.mark.parametrize("compat", ["upstream", "paper"])
def test_two_ranks_with_two_groups_each_equal_one_with_four(tmp_path, compat):
    one, two = run(tmp_path, compat, "float64")
    assert one.keys() == two.keys()
    assert {"phat", "metrics", "student.trunk.bn1.running_mean", "teacher.trunk.bn1.running_var"} <= one.keys()
    assert {"momentum.head.weight", "student.trunk.bn1.num_batches_tracked"} <= one.keys()
    assert two["everywhere"]
    assert len(one["metrics"][:, METRICS.index("mask_rate")].unique()) >= 3  # p̂ and the thresholds are at work
    for name, value in one.items():
        assert value.dtype in (torch.float64, torch.int64, torch.bool) or name == "scale", name
        assert relative_error(two[name], value) < 1e-9, name


def test_an_overflow_on_one_rank_skips_the_step_on_both(tmp_path):
    """The infinite gradient of one group reaches all ranks in the sum, before anyone looks for it."""
    one, two = run(tmp_path, "paper", "float16")
    assert one["scale"] == two["scale"] == 2.0**15
    assert two["everywhere"]
    torch.testing.assert_close(two["metrics"], one["metrics"], rtol=1e-2, atol=1e-2)
    assert all(value.double().isfinite().all() for value in two.values())
