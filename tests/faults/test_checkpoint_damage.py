"""Damage to what a run leaves: none of it is believed, and an older checkpoint stands in for a damaged one."""

import random
import shutil

import pytest

from debiaspl.checkpoint_file import CheckpointError, read, unpacked
from tests.support.damaged_files import count_outcomes
from tests.support.damaged_runs import FILES, checkpoint, count_refused
from tests.support.disturbed_runs import EPOCHS, assert_as_undisturbed
from tests.support.runs import STEPS, quick


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_a_hundred_damaged_copies(make, tmp_path):
    assert count_outcomes(make(tmp_path), copies=100, seed=0).refused > 50


def test_no_flipped_bit_of_a_real_checkpoint_is_loaded(tmp_path):
    data, draw = checkpoint(tmp_path).path.read_bytes(), random.Random(0)
    for _ in range(1000):
        damaged, bit = bytearray(data), draw.randrange(8 * len(data))
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointError):
            unpacked(bytes(damaged), "last.pt")


def test_another_structure_is_refused_and_changes_nothing():
    assert count_refused(copies=40, seed=0) > 20


def test_the_one_before_a_damaged_checkpoint_goes_on_to_the_same_bits(forked, few_data, undisturbed, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed[1], out)
    assert read(out / "last.pt")["progress"]["step"] == EPOCHS * STEPS
    damaged = bytearray((out / "last.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (out / "last.pt").write_bytes(damaged)
    ended = forked(quick(few_data, out, "--resume", "auto", epochs=EPOCHS))
    assert ended.statuses == [0], ended.said
    assert ended.said.count("last.pt is damaged") == 1
    assert (out / "damaged.pt").read_bytes() == damaged
    assert_as_undisturbed(out, undisturbed[1])
