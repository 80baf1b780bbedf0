"""Debiased pseudo-labels and the consistency loss that uses them (paper equations 2 and 4; method steps 1, 2 and 4)."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class TeacherTargets(NamedTuple):
    """What the teacher says of one group's U unlabeled samples, under each of k target sets (the mean view first)."""

    target: Int64[Tensor, "k u"]
    mask: Float[Tensor, "k u"]  # 1 where the debiased probability of the target reaches the threshold, else 0
    probability: Float[Tensor, "u c"]  # softmax of the mean weak logits, *not* debiased


def log_prior(phat: Float[Tensor, "c"]) -> Float[Tensor, "c"]:
    """Returns log p̂, finite where a class has vanished."""
    return phat.clamp_min(torch.finfo(torch.float32).tiny).log()


def teacher_targets(
    weak: Float[Tensor, "v u c"], phat: Float[Tensor, "c"], tau: float, threshold: float
) -> TeacherTargets:
    """Returns pseudo-labels from the teacher's logits of the weak views, freed of the bias that p̂ has measured so far.

    Target sets: the mean of the views and each view by itself; with one view, that view.
    """
    mean = weak.mean(0, keepdim=True)
    sets = weak if len(weak) == 1 else torch.cat([mean, weak])
    confidence, target = (sets - tau * log_prior(phat)).softmax(-1).max(-1)
    return TeacherTargets(target, (confidence >= threshold).to(weak.dtype), mean[0].softmax(-1))


def updated_phat(
    phat: Float[Tensor, "*g c"], mean_probability: Float[Tensor, "*g c"], momentum: float
) -> Float[Tensor, "*g c"]:
    """Returns p̂ moved, *per class*, towards the mean raw probability of all unlabeled samples, masked or not."""
    return momentum * phat + (1 - momentum) * mean_probability


def consistency_loss(
    margined: Float[Tensor, "j u c"], target: Int64[Tensor, "k u"], mask: Float[Tensor, "k u"]
) -> Float[Tensor, ""]:
    """Returns the mean over target sets k, strong views j and samples of CE(z_j, t_k)·m_k."""
    log_probability = margined.log_softmax(-1)
    # [j, u, k]: the log-probability that each strong view gives to each set's target
    chosen = log_probability.gather(-1, target.T.expand(len(margined), -1, -1))
    return -(chosen * mask.T).mean()
