"""float16: the loss is scaled, an overflow costs one step and nothing else, and a resumed run has the same bits."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.amp import GradScaler

from debiaspl import checkpoint
from debiaspl.build import build_state
from debiaspl.checkpoint import Progress
from debiaspl.checkpoint_file import read
from debiaspl.config import Engine, Recipe
from debiaspl.distributed import Ranks
from debiaspl.step import State, Step
from tests.support.runs import save
from tests.support.steps import CLASSES, SCIENCE, arrays, batches, tables

RECIPE = Recipe(
    "test",
    dataclasses.replace(SCIENCE, threshold=0.25, labeled_batch=4, group=2, mu=2, lr=0.01, lambda_u=1.0),
    Engine(precision="float16"),
)


def start(scale: float = 256.0, growth_interval: int = 2000) -> tuple[State, Step]:
    state = build_state(RECIPE, CLASSES, Ranks())
    state = state._replace(scaler=GradScaler("cpu", init_scale=scale, growth_interval=growth_interval))
    return state, Step(state, tables(), RECIPE.science, Ranks(), dtype=torch.float16, compile=False)


def restored(path: Path, state: State) -> Progress:
    return checkpoint.restore(path, read(path), state, RECIPE, "split", Ranks())


def copies(state: State) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in arrays(state).items()}


def test_eight_steps_stay_finite_and_close_to_float32():
    state, step = start()
    exact = build_state(RECIPE, CLASSES, Ranks())
    exact_step = Step(exact, tables(), RECIPE.science, Ranks(), dtype=torch.float32, compile=False)
    for number in range(8):
        data = batches(RECIPE.science, number)
        losses, expected = step(data, number), exact_step(data, number)
        assert losses[0].item() == pytest.approx(expected[0].item(), rel=0.05)
    assert all(value.isfinite().all() for value in arrays(state).values())
    assert state.scaler.get_scale() == 256  # no step was skipped


def test_an_overflow_skips_the_update_and_halves_the_scale():
    """Of the very first step, when momentum has not been used yet."""
    state, step = start(scale=2.0**60)
    before = copies(state)
    metrics = step(batches(RECIPE.science), 0)
    assert metrics.isfinite().all()  # the loss itself is sound
    assert state.scaler.get_scale() == 2.0**59
    after = arrays(state)
    still = {name for name, _ in state.student.named_parameters()}
    for name, value in after.items():
        kind, _, parameter = name.partition(".")
        if kind == "momentum" or (kind in ("student", "teacher") and parameter in still):
            torch.testing.assert_close(value, before[name], rtol=1e-6, atol=0, msg=name)
        elif value.is_floating_point():  # p̂, counts and BatchNorm's statistics follow the forward passes
            assert not torch.equal(value, before[name]), name


@pytest.mark.soak
def test_training_finds_a_scale_by_itself():
    state, step = start(scale=2.0**30)
    parameters = torch.cat([parameter.detach().flatten() for parameter in state.student.parameters()])
    for number in range(20):
        step(batches(RECIPE.science, number), number)
    assert state.scaler.get_scale() < 2.0**25
    moved = torch.cat([parameter.detach().flatten() for parameter in state.student.parameters()])
    assert moved.isfinite().all()
    assert not torch.equal(moved, parameters)


def test_groups_accumulate_scaled_gradients():
    """A power of two scales without rounding, so two scales give the same update but for float16's small numbers.

    Between the scales 8 and 256, neighbours differ by up to 8.4e-4 of the largest value: less than two roundings.
    """
    ends = []
    for scale in (128.0, 256.0):
        state, step = start(scale)
        step(batches(RECIPE.science), 0)
        ends.append(torch.cat([slot["momentum_buffer"].flatten() for slot in state.optimizer.state.values()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-2, atol=2**-10 * ends[0].abs().max().item())


def test_resuming_gives_the_same_bits(tmp_path):
    """The scale and the steps since it last changed are part of the checkpoint."""
    whole, step = start(scale=2.0**10, growth_interval=3)
    for number in range(8):
        if number == 4:
            save(tmp_path / "half.pt", whole, Progress(step=4), RECIPE)
            half_scale = whole.scaler.get_scale()
        step(batches(RECIPE.science, number), number)
    state, step = start(scale=1.0)
    assert restored(tmp_path / "half.pt", state).step == 4
    assert state.scaler.get_scale() == half_scale
    for number in range(4, 8):
        step(batches(RECIPE.science, number), number)
    assert state.scaler.get_scale() == whole.scaler.get_scale() != half_scale
    expected = arrays(whole)
    for name, value in arrays(state).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("saved_in", ["float32", "before float16 existed"])
def test_a_checkpoint_without_a_scale_still_loads(saved_in, tmp_path):
    exact = dataclasses.replace(RECIPE, engine=Engine(precision="float32"))
    other = build_state(exact, CLASSES, Ranks())
    save(tmp_path / "last.pt", other, Progress(step=2), exact)
    if saved_in != "float32":
        content = torch.load(tmp_path / "last.pt")
        del content["scaler"]
        content["format"] = 1
        torch.save(content, tmp_path / "last.pt")
    state, _ = start(scale=64.0)
    assert restored(tmp_path / "last.pt", state).step == 2
    assert state.scaler.get_scale() == 64
