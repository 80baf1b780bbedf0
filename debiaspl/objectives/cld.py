"""Cross-level discrimination: each sample against the centroids of the groups in its batch (CLD; method step 7)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Assignment = Literal["argmin", "argmax"]


def cld_loss(
    strong: Float[Tensor, "u c"],
    teacher_probability: Float[Tensor, "u c"],
    assignment: Assignment,
    temperature: float,
) -> Float[Tensor, ""]:
    """Returns CE(P_s · centroidsᵀ / temperature, a): student logits against the mean teacher probability of each group.

    Sample i belongs to group a_i, its ``assignment`` over the teacher's probabilities. Groups keep a fixed shape, one
    per class, empty ones included: their centroid is zero.
    """
    select = torch.argmin if assignment == "argmin" else torch.argmax
    group = select(teacher_probability, dim=-1)
    member = (group[:, None] == torch.arange(strong.shape[-1], device=strong.device)).to(strong.dtype)  # [u, c]
    # P_s · centroidsᵀ = (P_s · P_wᵀ) · member / size, without the [c, c] centroids
    similarity = strong.softmax(-1) @ teacher_probability.T
    to_centroid = similarity @ (member / member.sum(0).clamp_min(1))
    return F.cross_entropy(to_centroid / temperature, group)
