"""Top-1 and class-balanced accuracy over a whole data set, each sample counted once over all ranks."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from debiaspl.distributed import Ranks
from pipelines.batch import Source


class Accuracy(NamedTuple):
    """Shares of correctly classified images, in percent."""

    top1: float
    balanced: float  # mean over classes of the accuracy within the class


def evaluate(
    models: Mapping[str, nn.Module],
    source: Source,
    labels: Int64[Tensor, "n"],
    classes: int,
    ranks: Ranks,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Accuracy]:
    """Returns the accuracy of each model; all see the same decoded batches. ``labels`` are the true ones, by index.

    Models keep the mode (train or eval) that they came in.
    """
    modes = {name: model.training for name, model in models.items()}
    counts = {name: torch.zeros(2, classes, dtype=torch.int64, device=ranks.device) for name in models}
    for model in models.values():
        model.eval()
    source.seek(0, 0)
    low = dtype in (torch.bfloat16, torch.float16)
    with torch.no_grad(), torch.autocast(ranks.device.type, dtype, enabled=low):
        for views in source:
            truth = labels[views.index]
            for name, model in models.items():
                right = model(views.pixels[0]).argmax(-1) == truth
                counts[name][0].index_add_(0, truth, torch.ones_like(truth))
                counts[name][1].index_add_(0, truth, right.long())
    for name, model in models.items():
        model.train(modes[name])
    return {name: _accuracy(ranks.sum_(count)) for name, count in counts.items()}


def _accuracy(counts: Int64[Tensor, "2 c"]) -> Accuracy:
    seen, right = counts.double()
    per_class = (right / seen)[seen > 0]
    return Accuracy(top1=100 * float(right.sum() / seen.sum()), balanced=100 * float(per_class.mean()))
