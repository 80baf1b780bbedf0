"""Top-1 and class-balanced accuracy over a whole data set, each sample counted once over all ranks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from debiaspl.distributed import Ranks
from pipelines.batch import Source, Views


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
    stop: Callable[[], bool] = lambda: False,
    kept: Mapping[str, Float[Tensor, "2 n"]] | None = None,
) -> dict[str, Accuracy]:
    """Returns the accuracy of each model; all see the same decoded batches. ``labels`` are the true ones, by index.

    Models keep the mode (train or eval) that they came in. ``stop`` is asked after each batch, equally often on every
    rank and to be answered alike; where it answers True, the evaluation ends and nothing is returned. ``kept`` takes,
    for each model, the likeliest class and its probability of each image that this rank had, by index.
    """
    counts = {name: torch.zeros(2, classes, dtype=torch.int64, device=ranks.device) for name in models}
    source.seek(0, 0)
    batches, stopped = iter(source), False
    with evaluating(models, ranks, dtype):
        for _ in range(ranks.max(len(source))):
            if (views := next(batches, None)) is not None:  # this rank may have one batch less than others
                _count(models, counts, views, labels, kept or {})
            if stopped := stop():
                break
    return {} if stopped else {name: accuracy_of(ranks.sum_(count)) for name, count in counts.items()}


@contextmanager
def evaluating(models: Mapping[str, nn.Module], ranks: Ranks, dtype: torch.dtype) -> Iterator[None]:
    """Puts models in eval mode, without gradients and computing in ``dtype``, and back into the mode they came in."""
    modes = {name: model.training for name, model in models.items()}
    for model in models.values():
        model.eval()
    low = dtype in (torch.bfloat16, torch.float16)
    try:
        with torch.no_grad(), torch.autocast(ranks.device.type, dtype, enabled=low):
            yield
    finally:
        for name, model in models.items():
            model.train(modes[name])


def _count(
    models: Mapping[str, nn.Module],
    counts: Mapping[str, Tensor],
    views: Views,
    labels: Int64[Tensor, "n"],
    kept: Mapping[str, Tensor],
) -> None:
    """Adds one batch to each model's counts [2, c] of images and of correctly classified ones."""
    truth = labels[views.index]
    for name, model in models.items():
        logits = model(views.pixels[0])
        guess = logits.argmax(-1)
        if name in kept:
            kept[name][0, views.index] = guess.to(kept[name])
            kept[name][1, views.index] = logits.float().softmax(-1).amax(-1)
        right = guess == truth
        counts[name][0].index_add_(0, truth, torch.ones_like(truth))
        counts[name][1].index_add_(0, truth, right.long())


def accuracy_of(counts: Int64[Tensor, "2 c"]) -> Accuracy:
    """Returns the accuracy where ``counts`` has each class's images and, of these, the correctly classified ones."""
    seen, right = counts.double()
    per_class = (right / seen)[seen > 0]
    return Accuracy(top1=100 * float(right.sum() / seen.sum()), balanced=100 * float(per_class.mean()))
