"""From files to batches: knows no model and no loss.

``open_source`` is the front door: it imports only the pipeline that is asked for.
"""

from importlib import import_module

from pipelines.batch import Source
from pipelines.errors import DataError, MissingDependency
from pipelines.order import Order
from pipelines.samples.listing import Listing
from pipelines.sources.options import SourceOptions
from pipelines.views import EvaluationView, TrainingViews

# name → module, class, the package it stands on, and the command that installs that package
_SOURCES = {
    "torchvision": ("torchvision_source", "TorchvisionSource", "torchvision", "pip install torchvision"),
    "dali": ("dali_source", "DaliSource", "nvidia.dali", "pip install -e '.[dali]'"),
    "ffcv": ("ffcv_source", "FfcvSource", "ffcv", "pip install -e '.[ffcv]'"),
}
NAMES = tuple(_SOURCES)


def open_source(
    name: str,
    listing: Listing,
    order: Order,
    views: TrainingViews | EvaluationView,
    options: SourceOptions,
) -> Source:
    """The source called ``name`` (one of NAMES) that yields ``views`` of ``listing`` in ``order``.

    Raises DataError for an unknown name, MissingDependency where the pipeline's own package is not installed.
    """
    if name not in _SOURCES:
        raise DataError(f"There is no pipeline {name!r}; there are {', '.join(NAMES)}.")
    module, source, package, command = _SOURCES[name]
    try:
        opened = getattr(import_module(f"pipelines.sources.{module}"), source)
    except ModuleNotFoundError as error:
        # Only the absence of the pipeline's own package is news to the user; any other is a broken install.
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise
        raise MissingDependency(
            f"The pipeline {name!r} needs {package}, which is not installed. Run: {command}"
        ) from error
    built: Source = opened(listing, order, views, options)
    return built
