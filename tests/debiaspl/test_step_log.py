"""Metrics are read once the next step is queued, but before anything is saved, and from pinned memory on a GPU."""

import pytest
import torch

from debiaspl.build import build_run
from debiaspl.clock import HostClock, Lap
from debiaspl.data import read_data
from debiaspl.distributed import Ranks
from debiaspl.step_log import HostCopy
from debiaspl.trainer import Trainer
from tests.support.recorded_cuda import RecordedCuda
from tests.support.runs import STEPS, small_recipe, without_speed


def happenings(data, folder, monkeypatch, *more: str) -> list[str]:
    """What one epoch of STEPS steps does, in order: steps, readings of metrics, saves."""
    recipe = small_recipe(data, "science.epochs=1", "science.warmup_epochs=0", "science.mu=2", *more)
    trainer, found = Trainer(build_run(recipe, *read_data(recipe), Ranks()), folder), []
    really_step, really_read, really_save = trainer._train_step, HostCopy.read, trainer._content

    def step(groups):
        found.append(f"step {trainer.progress.step + 1}")
        return really_step(groups)

    def read(copy):
        found.append("read")
        return really_read(copy)

    def save():
        found.append("save")
        return really_save()

    monkeypatch.setattr(trainer, "_train_step", step)
    monkeypatch.setattr(trainer, "_content", save)
    monkeypatch.setattr(HostCopy, "read", read)
    assert trainer.fit()
    trainer.close()
    return found


def test_a_step_is_read_once_the_next_one_is_queued_and_the_last_before_it_is_saved(few_data, tmp_path, monkeypatch):
    found = happenings(few_data, tmp_path, monkeypatch)
    assert STEPS == 3
    assert found == ["step 1", "step 2", "read", "step 3", "read", "read", "save", "save"]  # of the epoch, of the run
    assert [row["step"] for row in without_speed(tmp_path / "metrics.jsonl")] == [1, 2, 3, 3]  # and the evaluation


def test_what_is_saved_was_read(few_data, tmp_path, monkeypatch):
    found = happenings(few_data, tmp_path, monkeypatch, "engine.save_minutes=0")
    assert found == ["step 1", "read", "save", "step 2", "read", "save", "step 3", "read", "save", "save", "save"]


def test_float16_records_the_scale_after_the_step(few_data, tmp_path):
    sets = ("science.epochs=1", "science.warmup_epochs=0", "science.mu=2", "engine.precision=float16")
    recipe = small_recipe(few_data, *sets)
    trainer = Trainer(build_run(recipe, *read_data(recipe), Ranks()), tmp_path)
    assert trainer.fit()
    trainer.close()
    scales = [row["train/loss_scale"] for row in without_speed(tmp_path / "metrics.jsonl") if "train/total" in row]
    assert len(scales) == STEPS
    assert scales[-1] == trainer._state.scaler.get_scale() > 1


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    device = property(lambda tensor: torch.device("cuda", 0))


def test_a_gpu_is_read_through_pinned_memory_behind_an_event(monkeypatch):
    values = torch.tensor([1.5, -2.0]).as_subclass(OnGpu)
    cuda = RecordedCuda(monkeypatch)
    copy = HostCopy(values)
    assert [call.name for call in cuda.calls] == ["record_event"]
    assert copy._values.data_ptr() in cuda.pinned
    assert copy.read() == [1.5, -2.0]
    assert [call.name for call in cuda.calls] == ["record_event", "synchronize"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_later_changes_are_not_read(dtype):
    values = torch.tensor([0.1, 2.0], dtype=dtype)
    copy, expected = HostCopy(values), values.tolist()
    values.zero_()
    assert copy.read() == expected


@pytest.mark.parametrize(("waited", "says"), [(40.0, False), (60.0, True)])
def test_an_epoch_that_waits_for_images_says_so_with_the_command_that_tells_why(
    few_data, tmp_path, monkeypatch, capsys, waited, says
):
    recipe = small_recipe(few_data, "science.epochs=1", "science.warmup_epochs=0", "science.mu=2")
    monkeypatch.setattr(HostClock, "lap", lambda clock: lambda: Lap(1000.0, waited))
    trainer = Trainer(build_run(recipe, *read_data(recipe), Ranks()), tmp_path)
    assert trainer.fit()
    trainer.close()
    lines = [line for line in capsys.readouterr().out.splitlines() if "for images" in line]
    wanted = f"python -m bench train --recipe demo --pipeline torchvision --data {few_data}"
    assert lines == [f"steps waited 6% of the epoch's time for images; what would help: {wanted}"] * says


def test_what_a_start_waits_is_not_said(few_data, tmp_path, monkeypatch, capsys):
    recipe = small_recipe(few_data, "science.epochs=1", "science.warmup_epochs=0", "science.mu=2")
    monkeypatch.setattr(HostClock, "lap", lambda clock: lambda: Lap(40.0, 29.0))
    trainer = Trainer(build_run(recipe, *read_data(recipe), Ranks()), tmp_path)
    assert trainer.fit()
    trainer.close()
    assert "for images" not in capsys.readouterr().out
