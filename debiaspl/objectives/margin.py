"""The adaptive marginal loss: classes that pseudo-labels favour must win by a larger margin (paper eq. 6; step 3)."""

from jaxtyping import Float
from torch import Tensor

from debiaspl.objectives.pseudo_label import log_prior


def adaptive_margin(strong: Float[Tensor, "j u c"], phat: Float[Tensor, "c"], tau: float) -> Float[Tensor, "j u c"]:
    """Returns the student's logits of the strong views with τ·log p̂ added, as logit adjustment does."""
    return strong + tau * log_prior(phat)
