"""The step with the published habits and ours are two ways to the same numbers."""

import dataclasses

import pytest
import torch

from bench.yardsticks.published_step import READINGS, PublishedStep
from debiaspl.build import build_state
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.models.eman import Eman
from debiaspl.step import METRICS, Step
from tests.support.steps import CLASSES, SCIENCE, batches, tables

STEPS = 3
SCALE = 6


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def fresh(science):
    """The same state every time, somewhat advanced: p̂ is not uniform, and scores reach the threshold."""
    state = build_state(Recipe("test", science), CLASSES, Ranks())
    with torch.no_grad():
        state.student.head.weight.mul_(SCALE)
        state.phat.copy_(torch.rand(state.phat.shape, generator=torch.Generator().manual_seed(1)) + 0.1)
        state.phat.div_(state.phat.sum(-1, keepdim=True))
    return state


def images(science, seed=0):
    """Batches in which every picture has a brightness of its own: the teacher is surer of some than of others."""
    found = batches(science, seed)
    for views in (views for batch in found for views in batch):
        brightness = torch.linspace(0, 1, views.pixels.shape[1]).view(1, -1, 1, 1, 1)
        views.pixels.copy_((views.pixels * brightness).to(torch.uint8))
    return found


def tensors(state):
    momentum = [slot["momentum_buffer"] for slot in state.optimizer.state.values()]
    return [*state.student.state_dict().values(), *state.teacher.state_dict().values(), *momentum, state.phat]


@pytest.mark.parametrize(
    "changes",
    [
        {"compat": "upstream"},
        {"compat": "paper", "clip": True, "clip_gate": 0.3},
        {"compat": "upstream", "multi_view": False, "clip": True, "group": 8},
        {"compat": "paper", "multi_view": False, "dropout": 0.0},
        {"tau": 0.0, "lambda_cld": 0.0},
    ],
    ids=str,
)
def test_agrees_with_the_trainers_step(changes):
    science = dataclasses.replace(SCIENCE, threshold=0.5, **changes)
    ours, published = fresh(science), fresh(science)
    step = Step(ours, tables(science.clip), science, Ranks(), dtype=torch.float64, compile=False)
    reference = PublishedStep(published, tables(science.clip), science)
    mask_rates, clip_rates = [], []
    for number in range(STEPS):
        found = step(images(science, number), number)
        expected = reference(images(science, number), number)
        assert list(expected) == list(READINGS)
        torch.testing.assert_close(found, torch.tensor([expected[name] for name in METRICS]), rtol=1e-9, atol=1e-9)
        mask_rates.append(expected["mask_rate"])
        clip_rates.append(expected["clip_rate"])
    for mine, theirs in zip(tensors(ours), tensors(published), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    assert torch.equal(ours.pseudo_labels, published.pseudo_labels)
    assert 0 < sum(mask_rates) < STEPS  # some pseudo-labels fired and some did not, so the masks were compared
    assert (sum(clip_rates) > 0) == science.clip


def test_parts_can_be_left_out():
    whole, parts = fresh(SCIENCE), fresh(SCIENCE)
    read = PublishedStep(whole, tables(), SCIENCE)(images(SCIENCE), 0)
    step = PublishedStep(parts, tables(), SCIENCE, reads=False, ema=False)
    before = [value.clone() for value in parts.teacher.state_dict().values()]
    metrics = step(images(SCIENCE), 0)
    torch.testing.assert_close(metrics, torch.tensor([read[name] for name in METRICS]))
    assert all(map(torch.equal, before, parts.teacher.state_dict().values()))


def test_learning_rate_is_a_number_and_weights_are_contiguous():
    state = fresh(SCIENCE)
    PublishedStep(state, tables(), SCIENCE)(images(SCIENCE), 0)
    assert type(state.optimizer.param_groups[0]["lr"]) is float
    for parameter in state.student.parameters():
        momentum = state.optimizer.state[parameter]["momentum_buffer"]
        assert parameter.is_contiguous()
        assert parameter.grad.is_contiguous()
        assert momentum.is_contiguous()


def test_our_teacher_update_can_take_its_place():
    loop, calls = fresh(SCIENCE), fresh(SCIENCE)
    PublishedStep(loop, tables(), SCIENCE)(images(SCIENCE), 0)
    step = PublishedStep(calls, tables(), SCIENCE, ema=False)
    eman = Eman(calls.teacher, calls.student, SCIENCE.ema)
    step(images(SCIENCE), 0)
    eman.update()
    torch.testing.assert_close(list(calls.teacher.state_dict().values()), list(loop.teacher.state_dict().values()))
