"""The objective: L = L_x + λ_u·L_u + λ_cld·L_cld, in one place.

Shapes of one group: B labeled images, U unlabeled ones, C classes, v weak and as many strong views, k target sets
(3 with two views, else 1). Everything here is a pure function of tensors in fixed shapes, float32 (or float64).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from debiaspl.objectives.cld import Assignment, cld_loss
from debiaspl.objectives.margin import adaptive_margin
from debiaspl.objectives.pseudo_label import TeacherTargets, consistency_loss, teacher_targets, updated_phat
from debiaspl.objectives.zero_shot import ClipTargets, clip_gate, clip_loss

__all__ = ["ClipTargets", "Losses", "Objective", "TeacherTargets", "teacher_targets", "total_loss", "updated_phat"]


@dataclass(frozen=True)
class Objective:
    """The numbers of the equation, in the paper's names; FixMatch is τ = 0 and λ_cld = 0."""

    tau: float
    threshold: float
    phat_momentum: float
    lambda_u: float
    lambda_cld: float
    cld_temperature: float
    cld_assignment: Assignment
    clip_gate: float


class Losses(NamedTuple):
    """Scalars of one group, all on the device."""

    total: Float[Tensor, ""]
    supervised: Float[Tensor, ""]  # L_x
    unsupervised: Float[Tensor, ""]  # L_u
    cld: Float[Tensor, ""]
    mask_rate: Float[Tensor, ""]  # share of samples whose mean-view pseudo-label fires
    clip_rate: Float[Tensor, ""]  # share of samples trained on CLIP's label


def total_loss(
    objective: Objective,
    labeled: Float[Tensor, "b c"],
    labels: Int64[Tensor, "b"],
    strong: Float[Tensor, "v u c"],
    teacher: TeacherTargets,
    phat: Float[Tensor, "c"],
    clip: ClipTargets | None,
) -> Losses:
    """Returns the loss of one group. The teacher made its targets with the old p̂; ``phat`` is the *new* one."""
    margined = adaptive_margin(strong, phat, objective.tau)

    supervised = F.cross_entropy(labeled, labels)
    unsupervised = consistency_loss(margined, teacher.target, teacher.mask)
    none = torch.zeros_like(supervised)
    clip_rate, cld = none, none
    if clip is not None:
        gate = clip_gate(clip, teacher.mask, objective.clip_gate)
        unsupervised = (unsupervised + clip_loss(margined, clip, gate)) / 2
        clip_rate = gate.mean()
    if objective.lambda_cld:
        # With two views the published code groups by the plain mean of the student's logits, with one by the margined.
        student = strong.mean(0) if len(strong) > 1 else margined[0]
        cld = cld_loss(student, teacher.probability, objective.cld_assignment, objective.cld_temperature)

    total = supervised + objective.lambda_u * unsupervised + objective.lambda_cld * cld
    return Losses(total, supervised, unsupervised, cld, teacher.mask[0].mean(), clip_rate)
