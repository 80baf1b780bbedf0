"""The fused step against the published habits written out: the same numbers, and close ones in low precision.

The yardstick (bench.yardsticks.published_step) shares no line of the objective, BatchNorm's order, p̂ or the moving
average.
"""

import dataclasses

import pytest
import torch
from torch.amp import GradScaler

from debiaspl.build import build_state, compute_dtype
from debiaspl.config import Engine, Recipe
from debiaspl.distributed import Ranks
from debiaspl.step import Step
from tests.support.published_habits import assert_equal_steps, run_both
from tests.support.steps import CLASSES, HEAD, SMALL, arrays, batches, relative_error, tables


@pytest.mark.parametrize("changed", [{"compat": "upstream"}, {"clip": True}], ids=str)
def test_25_steps_equal_the_published_habits(in_float64, changed):
    """In float64: what is left is the rounding of sums in another order, and its growth over the steps."""
    assert_equal_steps(changed, 25)


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
