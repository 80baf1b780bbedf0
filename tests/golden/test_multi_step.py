"""Six whole steps of the published trainer in float64, replayed by Step: losses, p̂, weights, statistics, momentum."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from debiaspl.build import build_state
from debiaspl.config import Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.models.resnet import Bottleneck, ResNet
from debiaspl.models.trunks import TRUNKS
from debiaspl.optim import learning_rate
from debiaspl.step import METRICS, State, Step, Tables
from pipelines.batch import Batch, Views

LIMIT = 1e-10
ROUNDED = 4e-8
"""For mask_rate, which the published meters round to float32."""
METERS = {
    "loss": "total",
    "loss_x": "supervised",
    "loss_u": "unsupervised",
    "loss_cld": "cld",
    "mask_rate": "mask_rate",
}
"""A published meter → our metric."""
Arrays = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def published() -> Arrays:
    with np.load(Path(__file__).with_name("multi_step.npz")) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(name="meta")
def _meta(published: Arrays) -> dict:
    return json.loads(str(published["meta"]))


@pytest.fixture(autouse=True)
def float64_and_the_published_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The network is too small to be of use elsewhere: users are not offered it."""
    monkeypatch.setitem(TRUNKS, "parity-small", lambda: ResNet(Bottleneck, (1, 1, 1, 1), width=4))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def science_of(meta: dict) -> Science:
    """The published run's settings, as a recipe states them."""
    return Science(
        size=meta["px"],
        arch="parity-small",
        dropout=meta["dropout"],
        ema=meta["ema"],
        labeled_batch=meta["labeled_per_rank"],
        group=meta["labeled_per_rank"],
        mu=meta["mu"],
        multi_view=meta["multiviews"],
        tau=meta["tau"],
        threshold=meta["threshold"],
        phat_momentum=meta["qhat_m"],
        lambda_u=meta["lambda_u"],
        lambda_cld=meta["lambda_cld"],
        lr=meta["lr"],
        momentum=meta["momentum"],
        weight_decay=meta["weight_decay"],
        epochs=meta["epochs"],
        warmup_epochs=meta["warmup_epochs"],
        compat="upstream",
    )


def published_name(name: str) -> str:
    """What the published code calls a tensor of ours."""
    return name.replace("trunk.", "backbone.", 1) if name.startswith("trunk.") else name.replace("head.", "fc.", 1)


def parts(state: State) -> dict[str, dict[str, Tensor]]:
    """Student, teacher and momentum, each tensor by its published name, in published order."""
    student, teacher = (
        {published_name(name): value for name, value in model.state_dict().items()}
        for model in (state.student, state.teacher)
    )
    momentum = {
        published_name(name): state.optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in state.student.named_parameters()
    }
    return {"student": student, "teacher": teacher, "momentum": momentum}


def relative_error(ours: Tensor, theirs: np.ndarray) -> float:
    """max|a − b| / max|b|; where b is all zero, max|a − b|. NaN counts as infinitely wrong."""
    error = float(np.abs(ours.detach().numpy() - theirs).max() / (np.abs(theirs).max() or 1.0))
    return error if np.isfinite(error) else float("inf")


def norms(tensors: dict[str, Tensor]) -> Tensor:
    """Sum and L2 norm [tensors, 2] of every floating-point tensor."""
    return torch.stack([torch.stack([t.sum(), t.norm()]) for t in tensors.values() if t.is_floating_point()]).detach()


def batch_of(published: Arrays, step: int, labeled: int) -> Batch:
    """The images of a step; a labeled sample's index is its place among those of all steps."""
    x, u = (torch.from_numpy(published[f"{step}.0.images_{name}"]) for name in ("x", "u"))
    index = torch.arange(step * labeled, (step + 1) * labeled)
    return Batch(Views(x[None], index), Views(u, torch.zeros(u.shape[1], dtype=torch.int64)))


def errors(published: Arrays, meta: dict, science: Science) -> dict[str, float]:
    """The error of every published array but the images, by its key."""
    state = build_state(Recipe("published", science), meta["classes"], Ranks())
    first = {name: published[f"init.{published_name(name)}"] for name in state.student.state_dict()}
    state.student.load_state_dict({name: torch.from_numpy(value) for name, value in first.items()})
    state.phat.fill_(float(np.float32(1 / meta["classes"])))
    labels = torch.from_numpy(np.concatenate([published[f"{step}.0.y"] for step in range(meta["steps"])]))
    run = Step(state, Tables(labels, None, None), science, Ranks(), dtype=torch.float64, compile=False)
    found: dict[str, float] = {}
    for step in range(meta["steps"]):
        rate = learning_rate(science, step, meta["steps_per_epoch"])
        state.optimizer.param_groups[0]["lr"].fill_(rate)
        metrics = run([batch_of(published, step, meta["labeled_per_rank"])], step)
        ours = {key: metrics[METRICS.index(metric)] for key, metric in METERS.items()}
        ours |= {"qhat": state.phat, "lr": torch.tensor(rate)}
        found |= {f"{step}.{key}": relative_error(value, published[f"{step}.0.{key}"]) for key, value in ours.items()}
        for part, tensors in parts(state).items():
            found[f"{step}.norms.{part}"] = relative_error(norms(tensors), published[f"{step}.norms.{part}"])
    for part, tensors in parts(state).items():
        for name, value in tensors.items():
            found[f"final.{part}.{name}"] = relative_error(value, published[f"final.{part}.{name}"])
    return found


def test_six_published_steps_are_replayed(published, meta):
    found = errors(published, meta, science_of(meta))
    of_a_step = {f"{step}.{key}" for step in range(meta["steps"]) for key in (*METERS, "qhat", "lr")}
    assert of_a_step | {key for key in published if ".norms." in key or key.startswith("final.")} == found.keys()
    rounded = {key for key in found if key.endswith(".mask_rate")}
    assert max(found[key] for key in rounded) <= ROUNDED
    assert max(found[key] for key in found.keys() - rounded) <= LIMIT


WRONG = [{"weight_decay": 0.0}, {"cld_assignment": "argmax"}, {"phat_momentum": 0.999}, {"ema": 0.998}, {"tau": 0.0}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_another_trainer_is_noticed(published, meta, wrong):
    """Each of these moves some array by more than ten million times what is allowed."""
    assert max(errors(published, meta, replace(science_of(meta), **wrong)).values()) > 1e-3


def test_the_published_network_is_not_offered_to_users(monkeypatch):
    monkeypatch.undo()
    assert "parity-small" not in TRUNKS
