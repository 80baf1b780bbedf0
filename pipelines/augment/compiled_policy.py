"""Plans, compiled: the numbers of ``policy.plan``, bit for bit, in a tenth of its time.

``policy`` draws all tries of all crops in a few hundred calls of numpy; this draws a view's tries one after the other
until one fits. Products, quotients, sums and roots are rounded as there: compiled code neither reorders nor fuses them.
"""

from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines import keyed_random
from pipelines.augment import cpu, ops, policy
from pipelines.augment.kernel import kernel
from pipelines.augment.policy import FLIP, OPERATIONS, TRIES, Plan
from pipelines.keyed_random import GOLDEN, MIX_1, MIX_2
from pipelines.order import Draws
from pipelines.views import EvaluationView, TrainingViews

_LEVELS, _OPERATIONS = ops.LEVELS, len(ops.Op)
_UNIT = 2.0**-53


class _Crops(NamedTuple):
    """What crops are drawn from: shares of the area, and the logarithm of width over height, of which each is even."""

    low: float
    high: float
    log_low: float
    log_high: float
    narrowest: float  # width over height
    widest: float


def plan(
    views: TrainingViews | EvaluationView, draws: Draws, heights: NDArray[np.int32], widths: NDArray[np.int32]
) -> Plan:
    """Returns what ``policy.plan`` returns, its arrays in C order."""
    if isinstance(views, EvaluationView):  # nothing is drawn
        return cpu.compiled(policy.plan(views, draws, heights, widths))
    shape = views.count, len(draws.index)
    planned = Plan(
        crop=np.empty((*shape, 4), np.int32),
        resized=np.full((*shape, 2), views.size, np.int32),
        window=np.zeros((*shape, 2), np.int32),
        flip=np.empty(shape, np.bool_),
        op=np.full((*shape, ops.DRAWS_PER_VIEW), ops.Op.Identity, np.uint8),
        level=np.ones((*shape, ops.DRAWS_PER_VIEW), np.int8),
        size=views.size,
    )
    (low, high), (narrowest, widest) = views.scale, views.ratio
    crops = _Crops(float(low), float(high), log(narrowest), log(widest), float(narrowest), float(widest))
    key = np.uint64(keyed_random.bits(draws.seed, draws.stream))
    # One type and layout for each argument, or it would be compiled again.
    of_samples = (np.ascontiguousarray(each, np.int64) for each in (draws.passes, draws.index, heights, widths))
    _draw(key, *of_samples, crops, views.weak, views.flip, planned.crop, planned.flip, planned.op, planned.level)
    return planned


@kernel
def _draw(
    key: np.uint64,
    passes: NDArray[np.int64],
    index: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    crops: _Crops,
    weak: int,
    mirror: bool,
    crop: NDArray[np.int32],
    flip: NDArray[np.bool_],
    op: NDArray[np.uint8],
    level: NDArray[np.int8],
) -> None:
    """Draws the plan of views [v, n] into ``crop``, ``flip``, ``op`` and ``level``; ``key`` holds seed and stream."""
    for sample in range(index.size):
        of_sample = _with_word(_with_word(key, np.uint64(passes[sample])), np.uint64(index[sample]))
        for view in range(flip.shape[0]):
            of_view = _with_word(of_sample, np.uint64(view))
            _draw_crop(of_view, float(heights[sample]), float(widths[sample]), crops, crop[view, sample])
            flip[view, sample] = mirror and _uniform(of_view, FLIP) < 0.5
            if view < weak:
                continue
            for k in range(op.shape[2]):
                at = OPERATIONS + 3 * k
                op[view, sample, k] = np.uint8(_uniform(of_view, at) * _OPERATIONS)
                magnitude = 1 + np.int8(_uniform(of_view, at + 1) * _LEVELS)
                level[view, sample, k] = -magnitude if _uniform(of_view, at + 2) < 0.5 else magnitude


@kernel
def _draw_crop(key: np.uint64, height: float, width: float, crops: _Crops, box: NDArray[np.int32]) -> None:
    """Writes the first try that fits an image of ``height`` × ``width`` into box [4]; the centre where none does."""
    for attempt in range(TRIES):
        at = 4 * attempt
        area = height * width * (crops.low + (crops.high - crops.low) * _uniform(key, at))
        ratio = _exp(crops.log_low + (crops.log_high - crops.log_low) * _uniform(key, at + 1))
        box_h, box_w = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
        if 0 < box_h <= height and 0 < box_w <= width:
            top = np.floor(_uniform(key, at + 2) * (height - box_h + 1))
            left = np.floor(_uniform(key, at + 3) * (width - box_w + 1))
            break
    else:
        box_w = min(width, np.rint(height * crops.widest))
        box_h = min(height, np.rint(width / crops.narrowest))
        top, left = np.floor((height - box_h) / 2), np.floor((width - box_w) / 2)
    box[0], box[1], box[2], box[3] = np.int32(top), np.int32(left), np.int32(box_h), np.int32(box_w)


@kernel
def _exp(x: float) -> float:
    """Returns the sum that ``policy`` has for e**x."""
    result = 1.0
    for k in range(24, 0, -1):
        result = 1.0 + x * result / k
    return result


@kernel
def _uniform(key: np.uint64, draw: int) -> float:
    """Returns ``keyed_random.uniform`` of the key's words and the number of the draw."""
    return np.float64(_with_word(key, np.uint64(draw)) >> np.uint64(11)) * _UNIT


@kernel
def _with_word(state: np.uint64, word: np.uint64) -> np.uint64:
    """Returns ``keyed_random.bits``, one word further; everything is 64 bits wide and wraps."""
    state = state + (word + np.uint64(1)) * GOLDEN
    state = (state ^ (state >> np.uint64(30))) * MIX_1
    state = (state ^ (state >> np.uint64(27))) * MIX_2
    return state ^ (state >> np.uint64(31))
