"""The fused step against the published habits written out: the same numbers, and close ones in low precision.

The yardstick (bench.yardsticks.published_step) shares no line of the objective, BatchNorm's order, p̂ or the moving
average.
"""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch.amp import GradScaler

from bench.yardsticks.published_step import PublishedStep
from debiaspl.build import build_state, compute_dtype
from debiaspl.config import Engine, Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.optim import learning_rate
from debiaspl.step import METRICS, State, Step
from pipelines.batch import Batch
from tests.debiaspl.test_step import CLASSES, SCIENCE, batches, tables

SMALL = dataclasses.replace(SCIENCE, mu=2, threshold=0.6, lambda_u=1.0, lr=0.01, epochs=10, warmup_epochs=2)
HEAD = 4.0
"""Factor on the head's first weights: logits with some spread, so that some pseudo-labels fire and some do not."""
STEPS_PER_EPOCH = 5


@pytest.fixture(name="in_float64")
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def arrays(state: State) -> dict[str, torch.Tensor]:
    """Everything a step changes, by name."""
    named = {f"student.{name}": value for name, value in state.student.state_dict().items()}
    named |= {f"teacher.{name}": value for name, value in state.teacher.state_dict().items()}
    for name, parameter in state.student.named_parameters():
        named[f"momentum.{name}"] = state.optimizer.state[parameter]["momentum_buffer"]
    return named | {"phat": state.phat, "pseudo_labels": state.pseudo_labels}


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """max|a − b| / max|b|; where b is all zero, max|a − b|."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).abs().max() / (theirs.abs().max() or 1.0))


def small_batches(science: Science, seed: int) -> list[Batch]:
    """Corners of 8 × 8 pixels: float64 is slow."""
    corner = lambda views: views._replace(pixels=views.pixels[:, :, :8, :8].contiguous())  # noqa: E731
    return [Batch(corner(batch.labeled), corner(batch.unlabeled)) for batch in batches(science, seed)]


def run_both(
    science: Science, steps: int, dtype: torch.dtype = torch.float32
) -> tuple[State, State, float, set[float]]:
    """Both states after ``steps`` steps, the largest error of any step's metrics, and the mask rates that occurred."""
    recipe, known = Recipe("test", science), tables(science.clip)
    known = known._replace(clip_confidence=None if not science.clip else torch.linspace(0, 1, 50))
    ours, theirs = build_state(recipe, CLASSES, Ranks()), build_state(recipe, CLASSES, Ranks())
    for state in (ours, theirs):
        state.student.head.weight.data *= HEAD
    fused = Step(ours, known, science, Ranks(), dtype=dtype, compile=False)
    published = PublishedStep(theirs, known, science, reads=False)
    worst, rates = 0.0, set()
    for step in range(steps):
        rate, data = learning_rate(science, step, STEPS_PER_EPOCH), small_batches(science, seed=step)
        for parameters in ours.optimizer.param_groups:
            parameters["lr"].fill_(rate)
        for parameters in theirs.optimizer.param_groups:
            parameters["lr"] = rate
        mine, other = fused(data, step), published(data, step)
        worst = max(worst, relative_error(mine, other))
        rates.add(float(other[METRICS.index("mask_rate")]))
    return ours, theirs, worst, rates


VARIANTS = [{"compat": "upstream"}, {"compat": "paper"}, {"clip": True}, {"multi_view": False}]


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_fifty_steps_equal_the_published_habits(in_float64, changed):
    """In float64: what is left is the rounding of sums in another order, and its growth over the steps."""
    assert_equal_steps(changed, 50)


def assert_equal_steps(changed: dict, steps: int) -> None:
    """Every step's metrics and the state at the end."""
    ours, theirs, worst, rates = run_both(dataclasses.replace(SMALL, **changed), steps)
    assert worst < 1e-9
    assert len(rates) > 5  # some pseudo-labels fired and some did not
    theirs = arrays(theirs)
    for name, value in arrays(ours).items():
        assert value.dtype in (torch.float64, torch.int64), name
        assert relative_error(value, theirs[name]) < 1e-9, name


def test_a_float32_step_equals_the_published_habits():
    ours, theirs, worst, _ = run_both(SMALL, 1)
    assert worst < 1e-5
    theirs = arrays(theirs)
    for name, value in arrays(ours).items():
        assert relative_error(value, theirs[name]) < 1e-5, name


def one_step(precision: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of a first step, and how far it moves all parameters; logits with some spread, all targets counted."""
    science = dataclasses.replace(SMALL, dropout=0.0, threshold=0.0, seed=seed)
    recipe = Recipe("test", science, Engine(precision=precision))
    state = build_state(recipe, CLASSES, Ranks())
    state.student.head.weight.data *= HEAD
    if state.scaler.is_enabled():  # the usual scale of 65536 is found too large first
        state = state._replace(scaler=GradScaler("cpu", init_scale=256.0))
    step = Step(state, tables(), science, Ranks(), dtype=compute_dtype(recipe, Ranks()), compile=False)
    before = [parameter.detach().clone() for parameter in state.student.parameters()]
    losses = step(batches(science, seed), 0)[:4]
    moved = [after.detach() - start for after, start in zip(state.student.parameters(), before, strict=True)]
    return losses, torch.cat([move.flatten() for move in moved])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("precision", "eps"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_a_low_precision_step_is_close_to_float32(precision, eps, seed):
    """Losses: each of 8 layers rounds both operands of its products by eps/2, and BatchNorm, which takes the mean away,
    may double the relative error: 16 eps.

    Update: a ReLU whose input is within the rounding of zero opens or shuts falsely. Inputs are about normal, so with
    an error of 2 eps this happens to 2·0.4·2 eps of a layer's units, over 7 layers to 11 eps, and a share s of false
    units makes a relative error of √s: √(11 eps), rounded up to √(16 eps).
    """
    (losses, moved), (exact_losses, exact_moved) = one_step(precision, seed), one_step("float32", seed)
    assert (exact_losses[:3] > 0.1).all()
    assert not torch.equal(losses, exact_losses)
    torch.testing.assert_close(losses, exact_losses, rtol=16 * eps, atol=0)
    assert 0 < (moved - exact_moved).norm() / exact_moved.norm() < (16 * eps) ** 0.5
