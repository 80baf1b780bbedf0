"""CLIP's labels for the samples that no pseudo-label covers (method step 5)."""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


class ClipTargets(NamedTuple):
    """CLIP's guess for U unlabeled samples; confidence 0 where there is none."""

    label: Int64[Tensor, "u"]
    confidence: Float[Tensor, "u"]


def clip_gate(clip: ClipTargets, mask: Float[Tensor, "k u"], threshold: float) -> Float[Tensor, "u"]:
    """Returns 1 where CLIP is confident and no pseudo-label of any target set fired, else 0."""
    silent = mask.amax(0) == 0
    return (silent & (clip.confidence >= threshold)).to(mask.dtype)


def clip_loss(margined: Float[Tensor, "j u c"], clip: ClipTargets, gate: Float[Tensor, "u"]) -> Float[Tensor, ""]:
    """Returns the mean over strong views and samples of CE(z_j, y_c)·g."""
    views, samples, _ = margined.shape
    label = clip.label.clamp_min(0).expand(views, samples)  # unknown labels (-1) have a closed gate
    losses = F.cross_entropy(margined.flatten(0, 1), label.flatten(), reduction="none")
    return (losses.view(views, samples) * gate).mean()
