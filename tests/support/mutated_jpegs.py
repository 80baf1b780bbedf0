"""JPEGs with a few damaged bytes each, drawn from a seed, and what each pipeline makes of a folder of them."""

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import open_source
from pipelines.beton.convert import convert
from pipelines.beton.one_image import Encoding
from pipelines.order import EvaluationOrder, Order, Stream, TrainingOrder
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import Listing, list_images
from pipelines.sources.options import Resources
from pipelines.views import EvaluationView, TrainingViews
from tests.support.images import photo

SIDE = 96
_KINDS: list[dict[str, Any]] = [
    {"quality": 90},
    {"quality": 75, "subsampling": "4:4:4", "optimize": True},
    {"quality": 85, "progressive": True},
    {"quality": 80, "restart_marker_rows": 1},
    {"quality": 95, "subsampling": "4:2:2"},
    {"quality": 60, "grey": True},
]

_MARKERS = b"\xc0\xc4\xd0\xd8\xd9\xda\xdb\xdd\xe1\xfe"


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """Yields ``count`` JPEGs of several kinds with one to three changes each."""
    draw = random.Random(seed)
    for number in range(count):
        kind = dict(_KINDS[number % len(_KINDS)])
        image = photo(SIDE, SIDE, number)
        buffer = io.BytesIO()
        (image.convert("L") if kind.pop("grey", False) else image).save(buffer, "JPEG", **kind)
        content = bytearray(buffer.getvalue())
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            _mutate(content, draw)
        yield bytes(content)


def _mutate(content: bytearray, draw: random.Random) -> None:
    """Makes one change: a bit, a byte, an end cut off with or without a new one, a marker put in, a stretch taken out
    or doubled."""
    scan = content.find(b"\xff\xda") + 14
    at = (
        draw.randrange(2, len(content))
        if draw.random() < 0.3
        else draw.randrange(min(scan, len(content) - 1), len(content))
    )
    until = min(len(content), at + draw.choice((1, 2, 10, 100)))
    match draw.randrange(8):
        case 0:
            content[at] ^= 1 << draw.randrange(8)
        case 1:
            content[at] = draw.randrange(256)
        case 2:
            del content[at:]
        case 3:
            content[at:] = b"\xff\xd9"
        case 4:
            content[at:at] = bytes((0xFF, draw.randrange(256)))
        case 5:
            content[at : at + 2] = bytes(
                (0xFF, draw.choice((0xC0, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1, 0xFE)))
            )
        case 6:
            del content[at:until]
        case 7:
            content[at:at] = content[at:until]


def written(folder: Path, files: Iterator[bytes]) -> Listing:
    """Returns the listing of ``folder``/images, where each of the files now lies as a sample."""
    (folder / "images/class").mkdir(parents=True)
    for number, content in enumerate(files):
        (folder / f"images/class/{number:05}.jpg").write_bytes(content)
    return list_images(folder / "images", on_bad="keep")


def judged(listing: Listing, beton: Path) -> dict[str, tuple[set[int], list[NDArray[np.uint8]]]]:
    """Returns by pipeline which samples it refuses, and the pixels of the others, each cut from the whole image.

    The listing holds a multiple of 4 samples: DALI's errors hit 4 at a time, which Pillow decodes from then on.
    """
    convert(listing, beton, Encoding(), 2)
    found = {}
    for pipeline in ("torchvision", "dali", "ffcv"):
        bad_files = BadFiles(listing, 1.0)
        resources = Resources(threads=2, beton=beton, bad_files=bad_files)
        _taken(pipeline, listing, _shuffled(listing), TrainingViews(size=8, weak=1), resources)
        accepted = EvaluationOrder(np.setdiff1d(listing.indices, list(bad_files.known)), batch=4)
        found[pipeline] = (
            set(bad_files.known),
            _taken(pipeline, listing, accepted, EvaluationView(SIDE, SIDE), resources),
        )
    return found


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
) -> list[NDArray[np.uint8]]:
    source = open_source(pipeline, listing, order, views, resources)
    try:
        return [image for batch in source for image in batch.pixels[0].numpy()]
    finally:
        source.close()
