"""What networks take each image of a data set for: their most likely classes, in order, and how sure they are."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from debiaspl.distributed import Ranks
from debiaspl.evaluation.accuracy import evaluating
from pipelines.batch import Source

MOST = 5
"""Classes that are kept of each image."""


class Guesses(NamedTuple):
    """One network's guesses for N images; the first of equally likely classes comes first, as in an accuracy."""

    label: NDArray[np.int64]  # [N, k] numbers of the k likeliest classes, the likeliest first
    confidence: NDArray[np.float32]  # [N, k] their probabilities
    seen: NDArray[np.bool_]  # [N] whether the source had the image; rows of others are without meaning

    def mistakes(self, truth: NDArray[np.int64]) -> list[int]:
        """Returns the images that were taken for another class than ``truth`` [N] says, the surest first."""
        wrong = np.flatnonzero(self.seen & (self.label[:, 0] != truth))
        ranked: list[int] = wrong[np.argsort(-self.confidence[wrong, 0], kind="stable")].tolist()
        return ranked


def guess(
    models: Mapping[str, nn.Module],
    source: Source,
    count: int,
    classes: int,
    ranks: Ranks,
    dtype: torch.dtype = torch.float32,
    among: Int64[Tensor, "c"] | None = None,
) -> dict[str, Guesses]:
    """Returns each model's guesses for ``count`` images, by index; all models see the same decoded batches.

    ``among``: the numbers of the only classes that come into question; None: all. Every rank must call it, and all get
    the same. Models keep the mode (train or eval) that they came in.
    """
    seen = torch.zeros(count, device=ranks.device)
    empty = torch.zeros(count, min(MOST, classes if among is None else len(among)), device=ranks.device)
    tables = {name: (empty.long(), empty.clone()) for name in models}
    source.seek(0, 0)
    with evaluating(models, ranks, dtype):
        for views in source:
            seen[views.index] = 1
            for name, model in models.items():
                label, confidence = _likeliest(model(views.pixels[0]).float(), among)
                tables[name][0][views.index] = label
                tables[name][1][views.index] = confidence
    whole = ranks.sum_(seen).cpu().numpy() > 0
    summed = {name: [ranks.sum_(table).cpu().numpy() for table in pair] for name, pair in tables.items()}
    return {name: Guesses(label, confidence, whole) for name, (label, confidence) in summed.items()}


def _likeliest(logits: Tensor, among: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns numbers and probabilities of the likeliest classes, [n, k] each."""
    if among is not None:
        logits = logits[:, among]
    order = logits.sort(dim=1, descending=True, stable=True).indices[:, :MOST]  # the first is what argmax says
    confidence = logits.softmax(-1).gather(1, order)
    return (order if among is None else among[order]), confidence
