"""Replays files of published numbers through the project's objective: python tests/golden/replay.py FILE…

Prints the largest error per file (max|a − b| / max|b| over each array) and exits with 1 if any is above 1e-5.
The format is described in tests/golden/README.md.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debiaspl.objectives import ClipTargets, Objective, teacher_targets, total_loss, updated_phat

LIMIT = 1e-5
# The gates are the recipes'; the published files do not name them.
_CLIP_GATE, _ZERO_SHOT_GATE = 0.4, 0.3


def relative_error(ours: Tensor, theirs: NDArray[np.float32]) -> float:
    """max|a − b| / max|b|; where b is all zero, max|a − b|. NaN counts as infinitely wrong."""
    difference = np.abs(ours.detach().numpy().astype(np.float64) - theirs)
    error = float(difference.max() / (np.abs(theirs).max() or 1.0))
    return error if np.isfinite(error) else float("inf")


def replay(path: Path) -> dict[str, float]:
    """The error of each published array of one file, by its key."""
    with np.load(path) as file:
        published = {key: file[key] for key in file.files}
    meta = json.loads(str(published["meta"]))
    objective = Objective(
        tau=meta["tau"],
        threshold=meta["threshold"],
        phat_momentum=meta["qhat_m"],
        lambda_u=meta["lambda_u"],
        lambda_cld=meta["lambda_cld"] if meta["cld"] else 0.0,
        cld_temperature=0.07,
        cld_assignment="argmin",  # the files are compat="upstream"
        clip_gate=meta.get("clip_gate", _ZERO_SHOT_GATE if meta["zero_shot"] else _CLIP_GATE),
    )
    phat = torch.from_numpy(published["qhat0"])
    errors: dict[str, float] = {}
    for step in range(meta["steps"]):
        arrays = {key.split(".", 1)[1]: value for key, value in published.items() if key.startswith(f"{step}.")}
        clip_table = torch.from_numpy(published["clip_probs"]) if meta["clip"] else None
        phat, ours = _one_step(objective, arrays, phat, 2 if meta["multiviews"] else 1, clip_table)
        # A file without CLD publishes no loss_cld; everything else must be there.
        optional = set() if meta["cld"] else {"loss_cld"}
        compared = [key for key in ours if key in arrays or key not in optional]
        errors |= {f"{step}.{key}": relative_error(ours[key], arrays[key]) for key in compared}
    return errors


def _one_step(
    objective: Objective, arrays: dict[str, NDArray[np.float32]], phat: Tensor, views: int, clip_table: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """p̂ after the step, and our values of the arrays that the file publishes."""
    labeled = torch.from_numpy(arrays["lx"]).requires_grad_()
    strong = torch.from_numpy(arrays["ls"]).requires_grad_()
    weak = torch.from_numpy(arrays["lw"])
    classes = labeled.shape[1]
    clip = None
    if clip_table is not None:
        confidence, label = clip_table[torch.from_numpy(arrays["iu"]).long()].max(-1)
        clip = ClipTargets(label, confidence)

    teacher = teacher_targets(weak.view(views, -1, classes), phat[0], objective.tau, objective.threshold)
    phat = updated_phat(phat, teacher.probability.mean(0, keepdim=True), objective.phat_momentum)
    labels = torch.from_numpy(arrays["yx"]).long()
    losses = total_loss(objective, labeled, labels, strong.view(views, -1, classes), teacher, phat[0], clip)
    losses.total.backward()
    assert labeled.grad is not None
    assert strong.grad is not None
    return phat, {
        "loss": losses.total,
        "loss_x": losses.supervised,
        "loss_u": losses.unsupervised,
        "loss_cld": losses.cld,
        "mask_rate": losses.mask_rate,
        "grad_lx": labeled.grad,
        "grad_ls": strong.grad,
        "qhat": phat,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    worst = 0.0
    for path in parser.parse_args(arguments).files:
        errors = replay(path)
        key = max(errors, key=lambda name: errors[name])
        print(f"{path.name}: largest error {errors[key]:.1e} ({key}, of {len(errors)} arrays)")
        worst = max(worst, errors[key])
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
