"""From files to batches: knows no model and no loss. ``open_source`` is the front door.

To iterate a pipeline's views in a loop of one's own (``views.pixels`` is uint8 [4, 16, 224, 224, 3] here, weak views
first, and ``views.index`` says which samples they are)::

    from pathlib import Path
    from pipelines import Resources, Stream, TrainingOrder, TrainingViews, list_images, open_source

    listing = list_images(Path("dataset/imagenet/train"))
    keys = {"seed": 0, "stream": Stream.UNLABELED, "continuous": False}
    order = TrainingOrder(listing.indices, batch=16, groups=1, steps=len(listing) // 16, **keys)
    source = open_source("torchvision", listing, order, TrainingViews(weak=2, strong=2), Resources(threads=2))
    for epoch in range(2):
        for views in source:
            print(epoch, views.pixels.float().mean().item(), listing.labels[views.index])
    source.close()
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pipelines.errors import DataError, MissingDependency, requires
from pipelines.order import EvaluationOrder, Order, Stream, TrainingOrder
from pipelines.samples.listing import Listing, list_images
from pipelines.sources.options import DaliOptions, FfcvOptions, Resources
from pipelines.views import EvaluationView, TrainingViews

if TYPE_CHECKING:
    from pipelines.batch import Source  # imports torch, which is slow, and which only an opened source needs

__all__ = [
    "NAMES",
    "DaliOptions",
    "DataError",
    "EvaluationOrder",
    "EvaluationView",
    "FfcvOptions",
    "Listing",
    "MissingDependency",
    "Order",
    "Resources",
    "Stream",
    "TrainingOrder",
    "TrainingViews",
    "list_images",
    "open_source",
]

# name → module, class, the package it stands on, and the command that installs that package
_SOURCES = {
    "torchvision": ("torchvision_source", "TorchvisionSource", "torchvision", "pip install torchvision"),
    "dali": ("dali_source", "DaliSource", "nvidia.dali", "pip install -e '.[dali]'"),
    "ffcv": ("ffcv_source", "FfcvSource", "numba", "pip install numba"),  # FFCV's format, none of its code
}
NAMES = tuple(_SOURCES)


def open_source(
    name: str,
    listing: Listing,
    order: Order,
    views: TrainingViews | EvaluationView,
    resources: Resources | None = None,
    options: DaliOptions | FfcvOptions | None = None,
) -> "Source":
    """Returns the source called ``name`` (one of NAMES) that yields ``views`` of ``listing`` in ``order``.

    None stands for the defaults of ``resources`` and of that pipeline's ``options``; torchvision has no options.

    Raises DataError for an unknown name, MissingDependency where the pipeline's own package is not installed.
    """
    from pipelines.augment import check  # imports Pillow, which --help need not wait for

    if name not in _SOURCES:
        raise DataError(f"There is no pipeline {name!r}; there are {', '.join(NAMES)}.")
    module, source, package, command = _SOURCES[name]
    with requires(package, command, f"The pipeline {name!r}"):
        opened = getattr(import_module(f"pipelines.sources.{module}"), source)
    check.warn_of_other_bytes()
    built: Source = opened(listing, order, views, resources or Resources(), *([options] if options else []))
    return built
