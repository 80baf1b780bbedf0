"""Before a pipeline is timed: are its views the pictures that they should be?

A sample's index comes from the order, not from its pixels: a loader that returned memory it never wrote would pass any
check of the indices, and be very fast. So one whole epoch is compared with the reference pipeline, which follows the
same order and plans.
"""

import torch
from torch import Tensor

from pipelines.batch import Views
from pipelines.errors import DataError
from pipelines.sources.feed import Feed

_LEVELS = 4.0
"""Mean grey levels by which a picture may differ; another resizing filter stays below, another crop far above."""
_SHARE = 0.01
"""Share of pictures that may differ by more: solarising enlarges a difference of one level at its threshold."""


def check(name: str, feed: Feed, reference: Feed) -> None:
    """Raises DataError where epoch 0 of ``feed`` is not that of ``reference``; both then stand at epoch 1."""
    for each in (feed, reference):
        each.seek(0, 0, 0)
    differences = [
        _difference(name, views, expected)
        for batch, expected_batch in zip(feed, reference, strict=True)
        for views, expected in zip(batch, expected_batch, strict=True)
    ]
    pictures = torch.cat(differences)
    share = (pictures > _LEVELS).double().mean().item()
    if share > _SHARE:
        raise DataError(
            f"{name} does not deliver the reference's pictures: {share:.1%} of {len(pictures)} views of one epoch "
            f"differ by more than {_LEVELS:g} grey levels on average. A rate would mean nothing; mend the pipeline."
        )


def _difference(name: str, views: Views, expected: Views) -> Tensor:
    """Returns the mean absolute difference of each picture, grey levels, [v · n]."""
    if views.pixels.shape != expected.pixels.shape or not torch.equal(views.index.cpu(), expected.index):
        raise DataError(f"{name} yields other samples, or another number of views, than the order and plan say.")
    apart = (views.pixels.cpu().short() - expected.pixels.short()).abs()
    return apart.flatten(2).float().mean(-1).flatten()
