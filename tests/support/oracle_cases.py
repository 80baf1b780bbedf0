"""Random steps and their numpy oracle: cases whose every decision is clear, the real Step on logits, the comparison.

The network is a table of logits in which a pixel names its row. So the real Step runs, with all its groups, and the
table's gradient *is* the gradient with respect to the logits.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from debiaspl.config import Science
from debiaspl.distributed import Ranks
from debiaspl.objectives import Objective
from debiaspl.optim import build_optimizer
from debiaspl.step import State, Step, Tables
from pipelines.batch import Batch, Views
from tests.reference import objective as oracle

AWAY = 1e-4
"""Draws stay this far from thresholds and ties: beyond, either side may be right."""
FLOAT64 = {"losses": 1e-9, "labeled": 1e-9, "strong": 1e-9, "phat": 1e-12}
FLOAT32 = {"losses": 1e-4, "labeled": 1e-4, "strong": 1e-4, "phat": 1e-5}
"""Logits of up to 100 are rounded by 4e-6, and CLD divides rounded probabilities by 0.07."""
FLOOR = {torch.float64: 1e-4, torch.float32: 1e-2}
"""Smaller arrays are differences such as p − 1 of nearly equal numbers: rounding acts on those, not on the result."""
UNREACHABLE = 1.0
"""A threshold above every probability: all masks are empty."""
CHOICES = {
    "classes": [2, 3, 10, 101, 1000],
    "groups": [1, 2, 3],
    "labeled": [1, 3],
    "scale": [0.3, 3.0, 8.0],
    "one_class": [False, True],
    "vanished": [None, 1e-30, 0.0],
    # fields of Science
    "multi_view": [True, False],
    "phat_scope": ["group", "all"],
    "mu": [1, 4],
    "tau": [0.0, 0.4, 1.0],
    "threshold": [0.0, 0.3, 0.8, UNREACHABLE],
    "lambda_cld": [0.0, 0.3],
    "cld_assignment": ["argmin", "argmax"],
    "clip": [True, False],
}
ORACLE_ONLY = ("classes", "groups", "labeled", "scale", "one_class", "vanished")


class Silent(Science):
    """Science in which no pseudo-label fires, not even one of probability 1."""

    @property
    def objective(self) -> Objective:
        return dataclasses.replace(super().objective, threshold=2.0)


class Case(NamedTuple):
    """A step's inputs: what the oracle takes, and the Science that says the same."""

    science: Science
    groups: list[oracle.Group]
    phat: np.ndarray


class LogitTable(nn.Module):
    """Logits by row; the first two bytes of a pixel are the row's number."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        digits = pixels.flatten(1).long()
        return self.rows[digits[:, 0] + 256 * digits[:, 1]]


def draw(seed: int, choice: dict) -> Case:
    """A random case, every decision of which is clear."""
    rng, choice = np.random.default_rng(seed), dict(choice)
    classes, groups, labeled, scale, one_class, vanished = map(choice.pop, ORACLE_ONLY)
    kind = Silent if choice["threshold"] == UNREACHABLE else Science
    science = kind(labeled_batch=labeled * groups, group=labeled, dropout=0.0, phat_momentum=0.9, init="", **choice)
    views, unlabeled = (2 if science.multi_view else 1), labeled * science.mu
    phat = rng.dirichlet(np.full(classes, 0.5), science.phat_rows)
    if vanished is not None:
        phat[:, : (classes + 1) // 2] = vanished
    only, drawn = int(phat[0].argmin()), []  # a class that debiasing favours
    while len(drawn) < groups:
        weak = rng.normal(scale=scale, size=(views, unlabeled, classes))
        if one_class:
            weak[..., only] = weak.max(-1) + 1
        group = oracle.Group(
            labeled=rng.normal(scale=scale, size=(labeled, classes)),
            labels=np.full(labeled, only) if one_class else rng.integers(0, classes, labeled),
            weak=weak,
            strong=rng.normal(scale=scale, size=(views, unlabeled, classes)),
            clip=(rng.integers(0, classes, unlabeled), rng.uniform(size=unlabeled)) if science.clip else None,
        )
        if oracle.distance_to_a_decision(science.objective, group, phat[len(drawn) % len(phat)]) > AWAY:
            drawn.append(group)
    return Case(science, drawn, phat)


def run_step(case: Case, dtype: torch.dtype) -> dict[str, list[torch.Tensor]]:
    """Losses, gradients and p̂ as the Step has them."""
    logits = [part for g in case.groups for part in (g.labeled[None], g.weak, g.strong)]
    starts = np.cumsum([0] + [part.shape[0] * part.shape[1] for part in logits])
    table = torch.tensor(np.concatenate([part.reshape(-1, part.shape[-1]) for part in logits]), dtype=dtype)
    student, teacher = LogitTable(table), LogitTable(table.clone())
    classes = table.shape[1]
    optimizer = build_optimizer(student, case.science)
    phat = torch.tensor(case.phat, dtype=dtype)
    state = State(student, teacher, optimizer, phat, torch.zeros(2, 2, classes, dtype=dtype))

    numbers = np.arange(starts[-1])
    pixels = torch.from_numpy(np.stack([numbers % 256, numbers // 256, numbers * 0], -1).astype(np.uint8))
    views = [
        pixels[start : start + len(part.reshape(-1, classes))].reshape(*part.shape[:2], 1, 1, 3)
        for start, part in zip(starts, logits, strict=False)
    ]
    labeled, unlabeled = len(case.groups[0].labels), case.groups[0].weak.shape[1]
    batches = [
        Batch(
            Views(views[3 * g], torch.arange(labeled) + g * labeled),
            Views(torch.cat(views[3 * g + 1 : 3 * g + 3]), torch.arange(unlabeled) + g * unlabeled),
        )
        for g in range(len(case.groups))
    ]
    clip_label = clip_confidence = None
    if case.science.clip:
        clip_label = torch.from_numpy(np.concatenate([g.clip[0] for g in case.groups]))
        clip_confidence = torch.tensor(np.concatenate([g.clip[1] for g in case.groups]), dtype=dtype)
    tables = Tables(torch.from_numpy(np.concatenate([g.labels for g in case.groups])), clip_label, clip_confidence)
    metrics = Step(state, tables, case.science, Ranks(), dtype=dtype, compile=False)(batches, 0)

    gradients = [
        student.rows.grad[start : start + len(part.reshape(-1, classes))].reshape(part.shape)
        for start, part in zip(starts, logits, strict=False)
    ]
    assert all(not gradient.any() for gradient in gradients[1::3])  # none reaches the teacher's logits
    return {
        "losses": [metrics[:4]],
        "labeled": [g[0] for g in gradients[::3]],
        "strong": gradients[2::3],
        "phat": [phat],
    }


def relative_error(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """max|a − b| / max|b|, or the dtype's floor; where b is all zero, max|a − b|."""
    scale = max(np.abs(theirs).max(), FLOOR[ours.dtype]) or 1.0
    return np.abs(ours.double().numpy() - theirs).max() / scale


def check(case: Case, dtype: torch.dtype, limits: dict[str, float]) -> dict[str, float]:
    """Compare a step with the oracle, array by array; the errors."""
    ours = run_step(case, dtype)
    losses, gradients, phat = oracle.step(case.science.objective, case.groups, case.phat)
    labeled, strong = map(list, zip(*gradients, strict=True))
    theirs = {"losses": [losses], "labeled": labeled, "strong": strong, "phat": [phat]}
    assert all(torch.isfinite(array).all() for arrays in ours.values() for array in arrays)
    errors = {
        name: max(relative_error(*pair) for pair in zip(ours[name], arrays, strict=True))
        for name, arrays in theirs.items()
    }
    for name, error in errors.items():
        assert error <= limits[name], f"{name}: {error} with {case.science}"
    return errors
