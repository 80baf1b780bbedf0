"""A folder of files, and what each pipeline makes of it: which it refuses, and the pixels of the others."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines import NAMES, open_source
from pipelines.beton.convert import convert
from pipelines.beton.one_image import Encoding
from pipelines.order import EvaluationOrder, Order, Stream, TrainingOrder
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import Listing, list_images
from pipelines.samples.reading import AS_TORCHVISION, Reading
from pipelines.sources.options import Resources
from pipelines.views import EvaluationView, TrainingViews


def written(folder: Path, files: Iterable[bytes], reading: Reading = AS_TORCHVISION) -> Listing:
    """Returns the listing of ``folder``/images, where each of the files now lies as a sample."""
    (folder / "images/class").mkdir(parents=True)
    for number, content in enumerate(files):
        (folder / f"images/class/{number:05}.jpg").write_bytes(content)
    return list_images(folder / "images", on_bad="keep", reading=reading)


def judged(listing: Listing, beton: Path, side: int) -> dict[str, dict[int, NDArray[np.uint8]]]:
    """Returns by pipeline the samples that it accepts, each with its pixels, the whole image where it is a square.

    ``ffcv, planes`` reads a file of planes, which is made beside ``beton``.

    The listing holds a multiple of 4 samples: DALI's errors hit 4 at a time, which Pillow decodes from then on.
    """
    planes = beton.with_name(f"planes-{beton.name}")
    how = asdict(listing.reading)
    convert(listing, beton, Encoding(**how), 2)
    convert(listing, planes, Encoding(mode="planes", check="decode", **how), 2)
    found = {}
    for variant in (*NAMES, "ffcv, planes"):
        pipeline, bad_files = variant.partition(",")[0], BadFiles(listing, 1.0)
        resources = Resources(threads=2, beton=beton if variant == pipeline else planes, bad_files=bad_files)
        _taken(pipeline, listing, _shuffled(listing), TrainingViews(size=8, weak=1), resources)
        accepted = EvaluationOrder(np.setdiff1d(listing.indices, list(bad_files.known)), batch=4)
        found[variant] = _taken(pipeline, listing, accepted, EvaluationView(side, side), resources)
        assert found[variant].keys() == set(accepted.indices.tolist())
    return found


def assert_alike(found: dict[str, dict[int, NDArray[np.uint8]]]) -> None:
    """Raises AssertionError where pipelines, as ``judged`` returns them, differ in what they accept or show."""
    reference = found["torchvision"]
    for pipeline, accepted in found.items():
        assert accepted.keys() == reference.keys(), pipeline
        for index, pixels in accepted.items():
            np.testing.assert_array_equal(pixels, reference[index], f"{pipeline}, sample {index}")


def _shuffled(listing: Listing) -> TrainingOrder:
    """Returns one epoch over all samples, in which bad ones are replaced."""
    count = len(listing)
    return TrainingOrder(
        listing.indices,
        seed=0,
        stream=Stream.UNLABELED,
        batch=count,
        groups=count // 4,
        steps=1,
        continuous=False,
    )


def _taken(
    pipeline: str, listing: Listing, order: Order, views: TrainingViews | EvaluationView, resources: Resources
) -> dict[int, NDArray[np.uint8]]:
    source = open_source(pipeline, listing, order, views, resources)
    try:
        return {
            index: image
            for batch in source
            for index, image in zip(batch.index.tolist(), batch.pixels[0].numpy(), strict=True)
        }
    finally:
        source.close()
