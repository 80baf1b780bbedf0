"""Long counts of faults: signals, kills and damage, of which the other tests check a few; each states its numbers."""

import itertools
import random
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch

from debiaspl.checkpoint_file import CheckpointError, unpacked
from debiaspl.train import main
from tests.support.damaged_files import count_outcomes
from tests.support.damaged_runs import FILES, checkpoint, count_refused
from tests.support.disturbed_runs import (
    EPOCHS,
    Kill,
    assert_as_undisturbed,
    assert_killed_and_resumed,
    assert_saved_and_resumed,
    every_stop,
)
from tests.support.forked_runs import PLACES, Moment
from tests.support.runs import STEPS, quick, run

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
KILLS = 12
"""Moments for each pipeline and number of ranks."""


@pytest.fixture(scope="module")
def converted(few_data, load_script) -> Path:
    """The data of few steps with its .beton files."""
    assert load_script("tools/convert_imagenet_to_ffcv.py").main(["--data", str(few_data)]) == 0
    return few_data


@pytest.fixture(scope="module")
def undisturbed(forked, converted, tmp_path_factory) -> dict[tuple[str, int], Path]:
    """Folders of runs that nothing disturbed, by pipeline and number of ranks."""
    folder, found = tmp_path_factory.mktemp("undisturbed"), {}
    for pipeline, world in itertools.product(("torchvision", "dali", "ffcv"), (1, 2)):
        out = folder / f"{pipeline}-{world}"
        ended = forked(quick(converted, out, "--pipeline", pipeline, epochs=EPOCHS), world=world)
        assert ended.statuses == [0] * world, ended.said
        found[pipeline, world] = out
    return found


def every_kill() -> list[Kill]:
    """Returns 72 kills: twelve moments in two epochs, for each pipeline on one and on two ranks.

    The best network is only sure to be saved in the first epoch.
    """
    steps = [Moment("step", call) for call in (1, 2, STEPS, STEPS + 1)]
    saves = [Moment(place, 1 if "best" in place else 1 + number % 2) for number, place in enumerate(PLACES[2:])]
    moments = [*steps, *saves, Moment("evaluation", 1), Moment("evaluation", 3)]
    assert len(moments) == KILLS
    return [
        Kill(moment, world, pipeline)
        for pipeline, world, moment in itertools.product(("torchvision", "dali", "ffcv"), (1, 2), moments)
    ]


def test_every_stop_saves_and_resumes(forked, few_data, undisturbed, tmp_path, record_property):
    stops = every_stop()
    seconds = {}
    for stop in stops:
        whole = undisturbed["torchvision", stop.world]
        seconds[stop] = assert_saved_and_resumed(forked, few_data, tmp_path / str(stop), whole, stop)
    slowest = max(each for stop, each in seconds.items() if stop.moment.place == "evaluation")
    record_property("saved on TERM, INT, USR1, USR2, HUP, XCPU and doubled TERM, INT", f"{len(stops)} of {len(stops)}")
    record_property("longest from a signal in an evaluation to the exit", f"{slowest:.1f} s")


def test_seventy_two_kills_resume_to_the_same_bits(forked, converted, undisturbed, tmp_path, record_property):
    kills = every_kill()
    lost = [
        assert_killed_and_resumed(forked, converted, tmp_path / str(kill), undisturbed[kill.pipeline, kill.world], kill)
        for kill in kills
    ]
    record_property("kill -9, resumed to the same bits", f"{len(kills)} of {len(kills)}")
    record_property("most work lost by a kill in a step, saved after each step", f"{max(lost)} steps")


RANK_KILLED_ONCE = """
import os, signal, sys
from debiaspl import trainer
from debiaspl.train import main
really = trainer.Trainer._train_step
def step(self, groups):
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and os.environ["RANK"] == "1" and self.progress.step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return really(self, groups)
trainer.Trainer._train_step = step
sys.exit(main(sys.argv[1:]))
"""


def test_a_launcher_restarts_after_the_kill_of_a_rank(converted, undisturbed, tmp_path, record_property):
    for step in (1, STEPS, STEPS + 1):
        script, out = tmp_path / f"{step}.py", tmp_path / f"run{step}"
        script.write_text(RANK_KILLED_ONCE.format(step=step))
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--max-restarts", "2"]
        words = quick(converted, out, "--resume", "auto", epochs=EPOCHS)
        done = run([sys.executable, *launcher, str(script), *words], PYTHONPATH=str(Path(__file__).parents[2]))
        assert done.returncode == 0, done.stderr
        assert_as_undisturbed(out, undisturbed["torchvision", 2])
    record_property("restart after kill -9 of a rank, bit-equal", "3 of 3")


def test_forty_damaged_checkpoints_resume_from_the_one_before(
    forked, converted, undisturbed, tmp_path, record_property
):
    whole, draw = undisturbed["torchvision", 1], random.Random(2)
    for number in range(40):
        out = tmp_path / str(number)
        shutil.copytree(whole, out)
        damaged = bytearray((out / "last.pt").read_bytes())
        bit = draw.randrange(8 * len(damaged))
        damaged[bit // 8] ^= 1 << bit % 8
        (out / "last.pt").write_bytes(damaged)
        ended = forked(quick(converted, out, "--resume", "auto", epochs=EPOCHS))
        assert ended.statuses == [0], ended.said
        assert ended.said.count("It stays where it is; going on from") == 1, ended.said
        assert_as_undisturbed(out, whole)
    record_property("damaged newest checkpoint, resumed from the one before", "40 of 40")


def test_no_flipped_bit_is_loaded(tmp_path, record_property):
    data, draw = checkpoint(tmp_path).path.read_bytes(), random.Random(3)
    for _ in range(1000):
        damaged, bit = bytearray(data), draw.randrange(8 * len(data))
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointError):
            unpacked(bytes(damaged), "last.pt")
    record_property("loaded, of 1,000 flipped bits", "0")


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_five_hundred_damaged_copies(make, tmp_path, record_property):
    outcomes = count_outcomes(make(tmp_path), copies=500, seed=1)
    assert outcomes.refused > 100
    record_property(f"500 of {make.__name__}: tracebacks, silent changes", "0, 0")


def test_five_hundred_other_structures(record_property):
    assert count_refused(copies=500, seed=1) > 250
    record_property("500 checkpoints of another structure: tracebacks, changed states", "0, 0")


@pytest.mark.alone
def test_saving_every_ten_minutes_costs_the_step_little(few_data, tmp_path, monkeypatch, record_property):
    """States, and does not assert, what the copies to the host add to ten minutes of steps."""
    from debiaspl import trainer

    seconds, content = [], trainer.Trainer._content

    def timed(self: trainer.Trainer) -> dict:
        began = time.perf_counter()
        found = content(self)
        seconds.append(time.perf_counter() - began)
        return found

    monkeypatch.setattr(trainer.Trainer, "_content", timed)
    assert main(quick(few_data, tmp_path / "run", "--set", "engine.save_minutes=0", epochs=EPOCHS)) == 0
    assert len(seconds) >= EPOCHS * STEPS
    assert torch.tensor(seconds).isfinite().all()
    record_property("step time added by saving every 10 minutes", f"{max(seconds) / 600:.3%}")
