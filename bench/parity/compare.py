"""The differences that ``bench parity`` reports, in grey levels; images are uint8 [images, views, h, w, 3]."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.four_views import PLAIN, UNLABELED_VIEWS
from pipelines import open_source
from pipelines.augment import cpu, gpu, ops, pillow
from pipelines.augment.ops import Op
from pipelines.augment.policy import Plan, plan
from pipelines.order import Stream, TrainingOrder
from pipelines.samples.listing import Listing
from pipelines.sources.options import DaliOptions, FfcvOptions, Resources
from pipelines.views import TrainingViews

Pixels = NDArray[np.uint8]
_EDGE = 3
"""Outermost pixels in which DALI's filter differs from Pillow's by more than rounding."""
_DALI_MEAN, _DALI_INNER = 0.2, 1


class Expected(NamedTuple):
    """What Pillow makes of a listing, in its order, and the plan of it."""

    listing: Listing
    planned: Plan
    plain: Pixels  # cut and mirrored
    finished: Pixels  # and augmented, where a view is strong


class Difference(NamedTuple):
    """How far one kind of view is from Pillow's, and whether its bar is met."""

    what: str
    views: int
    largest: int
    inner: int
    """The largest one outside the outer 3 pixels."""
    mean: float
    differing: float
    """Share of the bytes."""
    bar: str
    met: bool


class ComparedPipeline(NamedTuple):
    """A pipeline's differences, and its views."""

    differences: list[Difference]
    finished: Pixels


def expect(listing: Listing) -> Expected:
    """Returns Pillow's views of all images."""
    order = _order(listing)
    (draws,) = order.groups(0, 0)
    back = np.argsort(draws.index)
    draws = draws._replace(index=draws.index[back], passes=draws.passes[back])
    planned = plan(UNLABELED_VIEWS, draws, listing.heights, listing.widths)
    without = planned._replace(op=np.full_like(planned.op, Op.Identity))
    images = [pillow.decode(listing.path(index)) for index in range(len(listing))]
    plain, finished = (
        np.stack([pillow.execute(image, each, at) for at, image in enumerate(images)]) for each in (without, planned)
    )
    return Expected(listing, planned, plain, finished)


def _order(listing: Listing) -> TrainingOrder:
    """Returns an order that has all images in one step."""
    return TrainingOrder(
        listing.indices, seed=0, stream=Stream.UNLABELED, batch=len(listing), groups=1, steps=1, continuous=False
    )


def compare_pipeline(name: str, expected: Expected, resources: Resources) -> ComparedPipeline:
    """Compares the crops and flips of the pipeline called ``name``, and its strong views, with Pillow's."""
    plain, finished = (_loaded(name, expected.listing, views, resources) for views in (PLAIN, UNLABELED_VIEWS))
    strong = slice(UNLABELED_VIEWS.weak, None)
    rows = [
        _equal(f"{name}: crops and flips", plain, expected.plain),
        _equal(f"{name}: strong views", finished[:, strong], expected.finished[:, strong]),
    ]
    if name == "dali":
        rows += _dalis_operators(expected, resources)
    if name == "ffcv":
        left = _loaded(name, expected.listing, UNLABELED_VIEWS, resources, FfcvOptions(strong_on="device"))
        rows.append(_equal(f"{name}: strong views, left to the device", left[:, strong], expected.finished[:, strong]))
    return ComparedPipeline(rows, finished)


def _dalis_operators(expected: Expected, resources: Resources) -> list[Difference]:
    """Compares DALI's own slice, resize and flip, which a GPU runs; here they run on the CPU."""
    options = DaliOptions(cut="dali")
    plain, finished = (
        _loaded("dali", expected.listing, views, resources, options) for views in (PLAIN, UNLABELED_VIEWS)
    )
    strong = slice(UNLABELED_VIEWS.weak, None)
    mean, inner = _DALI_MEAN, _DALI_INNER
    row = _difference("dali's operators: crops and flips", plain, expected.plain)
    bar = f"mean ≤ {mean}, ≤ {inner} outside the outer {_EDGE} pixels"
    own = np.stack([_augmented(views, expected.planned, at) for at, views in enumerate(plain)])
    return [
        row._replace(bar=bar, met=row.mean <= mean and row.inner <= inner),
        _equal(
            "dali's operators: strong views, against Pillow's on its own crops", finished[:, strong], own[:, strong]
        ),
    ]


def _loaded(
    name: str,
    listing: Listing,
    views: TrainingViews,
    resources: Resources,
    options: DaliOptions | FfcvOptions | None = None,
) -> Pixels:
    """Returns the pipeline's views of all images, in the listing's order."""
    source = open_source(name, listing, _order(listing), views, resources, options)
    try:
        (batch,) = source
        return batch.pixels[:, torch.argsort(batch.index)].transpose(0, 1).contiguous().numpy()
    finally:
        source.close()


def _augmented(views: Pixels, planned: Plan, at: int) -> Pixels:
    """Returns the views [v, h, w, 3] of one image after Pillow's operations."""
    done = [Image.fromarray(view) for view in views]
    for view in range(len(done)):
        for op, level in zip(planned.op[view, at].tolist(), planned.level[view, at].tolist(), strict=True):
            done[view] = pillow.apply(Op(op), level, done[view])
    return np.stack([np.asarray(view) for view in done])


def compare_executors(crops: NDArray[np.uint8]) -> list[Difference]:
    """Compares the executors with Pillow: every operation at every signed level, on ``crops`` [n, h, w, 3]."""
    executors = {"cpu": _by_cpu, "gpu, run on the CPU": lambda *given: _by_torch(torch.device("cpu"), *given)}
    if torch.cuda.is_available():
        executors["gpu"] = lambda *given: _by_torch(torch.device("cuda"), *given)
    levels = [*range(-ops.LEVELS, 0), *range(1, ops.LEVELS + 1)]
    rows = []
    for op in Op:
        of = [Image.fromarray(crop) for crop in crops]
        wanted = np.stack([[np.asarray(pillow.apply(op, level, image)) for image in of] for level in levels])
        given = np.broadcast_to(crops, wanted.shape)
        level = np.broadcast_to(np.array(levels, np.int8)[:, None, None], (*wanted.shape[:2], 1))
        which = np.full_like(level, op, np.uint8)
        for name, execute in executors.items():
            rows.append(_equal(f"{name}: {op.name}", execute(given, which, level), wanted))
    return rows


def _by_cpu(views: Pixels, op: NDArray[np.uint8], level: NDArray[np.int8]) -> Pixels:
    done = views.copy()
    cpu.augment_batch(done, op, level, threads=1)
    return done


def _by_torch(device: torch.device, views: Pixels, op: NDArray[np.uint8], level: NDArray[np.int8]) -> Pixels:
    return gpu.augment_batch(torch.from_numpy(views.copy()).to(device), op, level).cpu().numpy()


def _equal(what: str, found: Pixels, wanted: Pixels) -> Difference:
    row = _difference(what, found, wanted)
    return row._replace(bar="equal bytes", met=row.largest == 0)


def _difference(what: str, found: Pixels, wanted: Pixels) -> Difference:
    apart = np.abs(found.astype(np.int16) - wanted)
    inner = apart[..., _EDGE:-_EDGE, _EDGE:-_EDGE, :]
    return Difference(
        what,
        views=int(np.prod(apart.shape[:2])),
        largest=int(apart.max()),
        inner=int(inner.max()),
        mean=float(apart.mean()),
        differing=float((apart > 0).mean()),
        bar="",
        met=True,
    )
