"""Opens the pipelines over pictures of our own, as a run does, and takes their batches."""

from pathlib import Path
from typing import Literal

from bench.arguments import cores
from bench.four_views import UNLABELED_VIEWS
from debiaspl.config import Engine, Recipe, Science
from debiaspl.data import TrainingData, open_training
from debiaspl.distributed import Ranks
from pipelines import (
    DaliOptions,
    EvaluationOrder,
    EvaluationView,
    FfcvOptions,
    Listing,
    Resources,
    Stream,
    TrainingOrder,
    TrainingViews,
    open_source,
)
from pipelines.batch import Source
from pipelines.beton.convert import convert
from pipelines.beton.one_image import Encoding
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.split import Split

Options = DaliOptions | FfcvOptions | None


def beton(listing: Listing) -> Path:
    """Returns the listing's .beton, converted at the first call; raises MissingDependency without libturbojpeg."""
    path = listing.root.parent / "ffcv" / "train.beton"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        convert(listing, path, Encoding(), cores())
    return path


def resources(name: str, listing: Listing, device: str, bad_files: BadFiles | None = None) -> Resources:
    """Returns what one source of a run alone on this machine is given."""
    converted = beton(listing) if name == "ffcv" else None
    return Resources(device=device, threads=cores(), beton=converted, bad_files=bad_files)


def training(
    name: str,
    listing: Listing,
    device: str,
    batch: int,
    steps: int,
    views: TrainingViews = UNLABELED_VIEWS,
    options: Options = None,
    bad_files: BadFiles | None = None,
) -> Source:
    """Opens a source of unlabeled batches in shuffled order, in epochs of so many ``steps``."""
    order = TrainingOrder(
        listing.indices, seed=0, stream=Stream.UNLABELED, batch=batch, groups=1, steps=steps, continuous=False
    )
    return open_source(name, listing, order, views, resources(name, listing, device, bad_files), options)


def evaluation(
    name: str, listing: Listing, device: str, batch: int, view: EvaluationView | None = None, options: Options = None
) -> Source:
    """Opens a source of all images once, in the listing's order."""
    order = EvaluationOrder(listing.indices, batch=batch)
    return open_source(name, listing, order, view or EvaluationView(), resources(name, listing, device), options)


def run_data(
    name: str, listing: Listing, wanted: Science, ranks: Ranks, steps: int, compile: Literal["auto", "off"] = "auto"
) -> TrainingData:
    """Opens what a run of this Science trains on, in epochs of ``steps``; both streams draw from the same images.

    ``compile`` as engine.compile: whether a source may compile what it does on a GPU.
    """
    if name == "ffcv":
        beton(listing)
    chosen = listing.indices[: steps * wanted.labeled_batch * wanted.mu]
    split = Split(listing, listing.indices, chosen, listing.labels, None)
    engine = Engine(pipeline=name, data=str(listing.root.parent), bad_files=0.5, compile=compile)
    return open_training(Recipe("bench", wanted, engine), split, ranks)


def why_absent(name: str) -> str:
    """Returns why a pipeline cannot be opened on this machine; empty if it can."""
    from pipelines.beton import turbojpeg
    from pipelines.errors import MissingDependency

    try:
        if name == "dali":
            import nvidia.dali  # noqa: F401  # type: ignore[import-untyped]
        elif name == "ffcv":
            turbojpeg.library()
    except (ImportError, MissingDependency) as error:
        return f"{name} cannot be opened: {error}"
    return ""
