"""Plans: what to do with each view, computed without pixels, the same for every executor.

Every draw is keyed by (seed, stream, pass, sample index, view, draw number), so a plan does not depend on batch layout,
threads or ranks. The arithmetic uses only operations that IEEE 754 rounds exactly (no libm): the same boxes anywhere.
"""

from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines import keyed_random
from pipelines.augment import ops
from pipelines.order import Draws
from pipelines.views import EvaluationView, TrainingViews

TRIES = 10
"""Attempts to fit a crop before the centre fallback, as in torchvision's RandomResizedCrop."""
# Draw numbers within a view: 4 per try (area, ratio, top, left), then the flip, then 3 per RandAugment operation.
FLIP = 4 * TRIES
OPERATIONS = FLIP + 1


class Plan(NamedTuple):
    """What to do with v views of n images; sizes in pixels of the stored image.

    Cut ``crop`` out, resize it to ``resized``, keep the size × size ``window`` of that (training: all of it), mirror
    it where ``flip``, then apply the operations in order.
    """

    crop: NDArray[np.int32]  # [v, n, 4] top, left, height, width
    resized: NDArray[np.int32]  # [v, n, 2] height, width
    window: NDArray[np.int32]  # [v, n, 2] top, left within the resized crop
    flip: NDArray[np.bool_]  # [v, n]
    op: NDArray[np.uint8]  # [v, n, 2] ops.Op; Identity where a view is not augmented
    level: NDArray[np.int8]  # [v, n, 2] signed level, ±1..±9
    size: int  # height and width of the finished view


def plan(
    views: TrainingViews | EvaluationView,
    draws: Draws,
    heights: NDArray[np.int32],
    widths: NDArray[np.int32],
) -> Plan:
    """Returns the plan of ``views`` for the samples ``draws``, whose images are ``heights`` × ``widths`` pixels [n]."""
    if isinstance(views, EvaluationView):
        return _evaluation_plan(views, heights, widths)
    return _training_plan(views, draws, heights, widths)


def _training_plan(
    views: TrainingViews,
    draws: Draws,
    heights: NDArray[np.int32],
    widths: NDArray[np.int32],
) -> Plan:
    v, n = views.count, len(draws.index)
    view = np.arange(v)[:, None]  # broadcasts against the samples to [v, n]

    def uniform(draw: int | NDArray[np.int64]) -> NDArray[np.float64]:
        shape = (Ellipsis,) + (None,) * np.ndim(draw)  # array draws get axes of their own, after [v, n]
        words = draws.seed, draws.stream, draws.passes[shape], draws.index[shape], view[shape], draw
        return keyed_random.uniform(*words)

    op = np.full((v, n, ops.DRAWS_PER_VIEW), ops.Op.Identity, np.uint8)
    level = np.ones((v, n, ops.DRAWS_PER_VIEW), np.int8)
    if views.strong:
        drawn = uniform(OPERATIONS + np.arange(3 * ops.DRAWS_PER_VIEW)).reshape(v, n, ops.DRAWS_PER_VIEW, 3)
        strong = slice(views.weak, None)
        op[strong] = (drawn[strong, ..., 0] * len(ops.Op)).astype(np.uint8)
        magnitude = 1 + (drawn[strong, ..., 1] * ops.LEVELS).astype(np.int8)
        level[strong] = np.where(drawn[strong, ..., 2] < 0.5, -magnitude, magnitude)

    return Plan(
        crop=_random_resized_crops(views, uniform(np.arange(4 * TRIES)), heights, widths),
        resized=np.full((v, n, 2), views.size, np.int32),
        window=np.zeros((v, n, 2), np.int32),
        flip=(uniform(FLIP) < 0.5) & views.flip,
        op=op,
        level=level,
        size=views.size,
    )


def _evaluation_plan(views: EvaluationView, heights: NDArray[np.int32], widths: NDArray[np.int32]) -> Plan:
    h, w = heights.astype(np.int64), widths.astype(np.int64)
    short = np.minimum(h, w)
    # torchvision's Resize: the short side becomes `resize`, the long one is truncated to an integer.
    resized = np.stack([views.resize * h // short, views.resize * w // short], axis=-1)
    return Plan(
        crop=np.stack([0 * h, 0 * w, h, w], axis=-1)[None].astype(np.int32),
        resized=resized[None].astype(np.int32),
        window=np.rint((resized - views.size) / 2)[None].astype(np.int32),  # CenterCrop rounds half to even
        flip=np.zeros((1, len(h)), np.bool_),
        op=np.full((1, len(h), ops.DRAWS_PER_VIEW), ops.Op.Identity, np.uint8),
        level=np.ones((1, len(h), ops.DRAWS_PER_VIEW), np.int8),
        size=views.size,
    )


def _random_resized_crops(
    views: TrainingViews, drawn: NDArray[np.float64], heights: NDArray[np.int32], widths: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Returns [v, n, 4] boxes from uniform draws [v, n, 40], after torchvision's RandomResizedCrop.get_params."""
    area_share, aspect, top, left = np.moveaxis(drawn.reshape(*drawn.shape[:2], TRIES, 4), -1, 0)
    full_h, full_w = heights.astype(np.float64)[None, :, None], widths.astype(np.float64)[None, :, None]
    low, high = views.scale
    area = full_h * full_w * (low + (high - low) * area_share)
    log_low, log_high = log(views.ratio[0]), log(views.ratio[1])
    ratio = _exp(log_low + (log_high - log_low) * aspect)
    height, width = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))

    fits = (height > 0) & (height <= full_h) & (width > 0) & (width <= full_w)
    first = fits.argmax(-1, keepdims=True)  # the first try that fits; 0 where none does

    def chosen(tries: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.take_along_axis(tries, first, -1)[..., 0]

    height, width = chosen(height), chosen(width)
    box_top = np.floor(chosen(top) * (full_h[..., 0] - height + 1))
    box_left = np.floor(chosen(left) * (full_w[..., 0] - width + 1))
    drawn_box = np.stack([box_top, box_left, height, width], axis=-1)
    box = np.where(fits.any(-1)[..., None], drawn_box, _centre_crops(views.ratio, full_h[0, :, 0], full_w[0, :, 0]))
    return box.astype(np.int32)


def _centre_crops(
    ratio: tuple[float, float], heights: NDArray[np.float64], widths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns [n, 4], the largest centred boxes whose width over height lies within ``ratio``."""
    box_w = np.minimum(widths, np.rint(heights * ratio[1]))
    box_h = np.minimum(heights, np.rint(widths / ratio[0]))
    return np.stack([(heights - box_h) // 2, (widths - box_w) // 2, box_h, box_w], axis=-1)


def _exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns e**x by its series, |x| ≤ 2 to 1e-13 relative: only sums and products, so the same bits on every machine.

    np.exp's last bit depends on the processor's vector units, and a box edge sometimes on that bit.
    """
    result = np.ones_like(x)
    for k in range(24, 0, -1):
        result = 1.0 + x * result / k
    return result
