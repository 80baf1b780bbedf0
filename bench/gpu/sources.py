"""Opens the pipelines over pictures of our own, as a run does, and takes their batches."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench.arguments import LABELED, UNLABELED, cores
from bench.four_views import LABELED_VIEWS, UNLABELED_VIEWS
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
from pipelines.sources.feed import Feed

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


@contextmanager
def feed(
    name: str,
    listing: Listing,
    device: str,
    steps: int,
    size: int = 224,
    batches: tuple[int, int] = (LABELED, UNLABELED),
    options: Options = None,
) -> Iterator[Feed]:
    """Opens the four-view recipe, ``batches`` labeled and unlabeled images a step; both draw from all images."""
    labeled, unlabeled = batches
    order = TrainingOrder(
        listing.indices, seed=0, stream=Stream.LABELED, batch=labeled, groups=1, steps=steps, continuous=True
    )
    given = resources(name, listing, device)
    first = open_source(name, listing, order, TrainingViews(size=size, weak=LABELED_VIEWS.count), given, options)
    views = TrainingViews(size=size, weak=UNLABELED_VIEWS.weak, strong=UNLABELED_VIEWS.strong)
    second = training(name, listing, device, unlabeled, steps, views, options)
    with closing(Feed(first, second, prefetch=2)) as opened:
        yield opened


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
