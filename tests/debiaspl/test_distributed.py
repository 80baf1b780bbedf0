"""Launchers' variables: one process without them, a sentence where they start no run."""

import os
import re
import sys

import pytest
import torch.distributed as dist

from debiaspl.cores import Allowance, share
from debiaspl.distributed import exchanged, join
from pipelines.errors import UserError
from tests.support.runs import run

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_one_process_stands_alone(monkeypatch):
    assert (join("cpu").rank, join("cpu").world) == (0, 1)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert join("cpu").world == 1


def test_ranks_learn_which_cores_they_share():
    """Two ranks on one half of a machine and one on the other: the first two have half of it each."""
    store, masks = dist.HashStore(), (range(8), range(8), range(8, 16))
    own = [Allowance("host", frozenset(mask), {}) for mask in masks]
    for rank, allowance in enumerate(own):
        store.set(f"allowance {rank}", allowance.packed())  # the others may be earlier or later
    assert [share(mine, exchanged(mine, store, rank, 3)) for rank, mine in enumerate(own)] == [4, 4, 8]


def test_a_rank_compiles_with_its_own_cores_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    assert os.environ.get("TORCHINDUCTOR_COMPILE_THREADS") is None
    ranks = join("cpu")
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == str(min(ranks.cores, 32))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "5")
    join("cpu")
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "5"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, but MASTER_ADDR is not set."),
        ({"WORLD_SIZE": "2", **MEETING}, "WORLD_SIZE is 2, but RANK is not set."),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x"}, "WORLD_SIZE is 2, but MASTER_PORT is not set."),
        ({"WORLD_SIZE": "2", "RANK": "2", **MEETING}, "RANK is 2, but WORLD_SIZE is 2."),
        ({"RANK": "1"}, "RANK is 1, but WORLD_SIZE is not set."),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', which is no whole number from 1 on."),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', which is no whole number from 1 on."),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '', which is no whole number from 1 on."),
        ({"RANK": "-1"}, "RANK is '-1', which is no whole number from 0 on."),
        ({"LOCAL_RANK": "1_0"}, "LOCAL_RANK is '1_0', which is no whole number from 0 on."),
        ({"WORLD_SIZE": "2", "RANK": "0", **MEETING, "MASTER_PORT": "http"}, "MASTER_PORT is 'http', which is no"),
    ],
)
def test_variables_that_start_no_run_are_named(monkeypatch, given, message):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun --standalone, or unset") as caught:
        join("cpu")
    assert f"The environment variable {message}" in str(caught.value)


def test_a_run_says_so_and_exits_with_2(demo_data, tmp_path):
    words = ["--recipe", "demo", "--pipeline", "torchvision", "--data", str(demo_data), "--out", str(tmp_path)]
    done = run([sys.executable, "-m", "debiaspl.train", *words, "--set", "engine.device=cpu"], WORLD_SIZE="2", RANK="0")
    assert done.returncode == 2
    assert re.fullmatch(r"error: The environment variable WORLD_SIZE is 2, .*\n", done.stderr)
