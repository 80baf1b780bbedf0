"""RandAugment on any torch device, whole batches at a time: byte for byte what Pillow and the CPU executor make.

Shapes: pixels uint8 [n, h, w, 3], cut and mirrored already; op and level [n, k] for k draws, applied in order.

Each draw is an affine gather, a look-up table per view and channel, and a blend; an operation is one of the three, and
numbers make the other two pass its view unchanged. So shapes are fixed, nothing is read back to the host, and ``apply``
compiles into one graph. Whatever an operation needs to know of a view, it takes from the view before the draw. So all
three compile into one kernel that writes the draw's result and nothing else as large (compiled.py).

Why the bytes are the same everywhere: integers wherever possible; a product of floats, whose rounding shows in Pillow's
bytes, is made of two products without rounding (``_halves``), because a compiler may fuse a product and a sum into one
rounding, and does so for GPUs. Found equal on the CPU, eager and compiled, and in Triton's interpreter; never run on a
GPU.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int16, Int32, UInt8
from numpy.typing import NDArray
from torch import Tensor

from pipelines.augment import ops
from pipelines.augment.operation_tables import operation_tables
from pipelines.augment.ops import Op

_ONE = 1 << 16
"""1 in the 16.16 fixed point of affine maps."""
_MOVING = (Op.Rotate, Op.ShearX, Op.ShearY, Op.TranslateX, Op.TranslateY)
_TABLED = (Op.Brightness, Op.Invert, Op.Posterize, Op.Solarize, Op.SolarizeAdd)
"""Operations whose table does not depend on the view."""
_BLENDING = (Op.Color, Op.Contrast, Op.Sharpness)
_LONGEST_SIDE = 8192
"""Fixed-point coordinates of longer sides leave int32."""


class Parameters(NamedTuple):
    """What k draws need to know about n views; all of it comes from the plan, nothing from pixels."""

    op: UInt8[Tensor, "k n"]
    affine: Int32[Tensor, "k n 6"]  # 16.16: source x = a·x + b·y + c, source y = d·x + e·y + f
    point: UInt8[Tensor, "k n 256"]  # new value of each value
    factor: Float32[Tensor, "k n 2"]  # of the blend, as ``_halves``
    stretch: Float64[Tensor, "256 2"]  # 255 / (highest - lowest value), as ``_halves``: AutoContrast's scales


def augment_batch(
    pixels: UInt8[Tensor, "*views h w 3"],
    op: NDArray[np.uint8],
    level: NDArray[np.int8],
    run: Callable[[Tensor, Parameters], Tensor] | None = None,
) -> UInt8[Tensor, "*views h w 3"]:
    """Returns the views [(v,) n, h, w, 3] after RandAugment's op and level [(v,) n, k], made on their current stream.

    ``run`` is ``apply`` or what a compiler made of it. The result is a new tensor: a gather cannot run in place, and a
    function without side effects is what compiles.
    """
    views = pixels.reshape(-1, *pixels.shape[-3:])
    done = (run or apply)(views, upload(parameters(op, level, *views.shape[1:3]), pixels.device))
    return done.reshape(pixels.shape)


def parameters(op: NDArray[np.uint8], level: NDArray[np.int8], height: int, width: int) -> Parameters:
    """Returns the parameters, on the host, of op and signed level [..., k] for views [height, width]."""
    if max(height, width) > _LONGEST_SIDE:
        raise ValueError(
            f"Views have at most {_LONGEST_SIDE} pixels a side (got {height} × {width}); cut smaller ones."
        )
    op, level = op.reshape(-1, op.shape[-1]).T, level.reshape(-1, level.shape[-1]).T  # a draw's views lie together
    table, at = operation_tables(height, width), (op, level.astype(np.int64) + ops.LEVELS)
    unmoved = np.array([_ONE, 0, _ONE // 2, 0, _ONE, _ONE // 2])
    affine = np.where(np.isin(op, _MOVING)[..., None], table.affine[at], unmoved)
    point = np.where(np.isin(op, _TABLED)[..., None], table.point[at], np.arange(256, dtype=np.uint8))
    factor = np.where(np.isin(op, _BLENDING), table.value[at], np.float32(1))
    difference = np.maximum(np.arange(256), 1)  # no scale belongs to 0
    return Parameters(
        op=torch.from_numpy(np.ascontiguousarray(op)),
        affine=torch.from_numpy(affine.astype(np.int32)),
        point=torch.from_numpy(point),
        factor=torch.from_numpy(_halves(factor)),
        stretch=torch.from_numpy(_halves(255.0 / difference)),
    )


def _halves(x: NDArray[Any]) -> NDArray[Any]:
    """Returns [..., 2], two float32 or float64 numbers whose sum is x ≥ 0, each with room for eight more bits.

    Their products with a value of -255 … 255 are exact, so that the sum of the two products is x times the value,
    rounded once: the same with and without fusion, and no product is left that could be fused with what comes next.
    """
    bits, dropped = (np.int32, 9) if x.dtype == np.float32 else (np.int64, 27)
    pattern: NDArray[Any] = x.view(bits)
    high = (pattern >> dropped << dropped).view(x.dtype)
    return np.stack([high, x - high], axis=-1)


def upload(host: Parameters, device: torch.device) -> Parameters:
    """Returns the parameters on ``device``; the host does not wait for the copies."""
    if device.type == "cuda":  # pinned memory is reused only once its copy is done: torch sees to that
        return Parameters(*(part.pin_memory().to(device, non_blocking=True) for part in host))
    return Parameters(*(part.to(device) for part in host))


def apply(pixels: UInt8[Tensor, "n h w 3"], on_device: Parameters) -> UInt8[Tensor, "n h w 3"]:
    """Returns the views after all draws; ``on_device`` lies where they do."""
    op, affine, point, factor, stretch = on_device
    assert pixels.numel() < 2**31, "Indices are int32: split the batch."
    for draw in range(len(op)):
        tables = _stored(_tables(pixels, op[draw], point[draw], stretch))
        changed = _look_up(_moved(pixels, affine[draw]), tables)
        pixels = _stored(_blend(changed, _base(pixels, op[draw]), factor[draw]))
    return pixels


def _stored(tensor: Tensor) -> Tensor:
    """Returns the same tensor; a compiler has to store it, not compute it anew for each pixel that reads it."""
    return tensor.as_strided(tensor.shape, tensor.stride())


def _count(to: int, like: Tensor) -> Int32[Tensor, "to"]:
    return torch.arange(to, dtype=torch.int32, device=like.device)


def _moved(pixels: UInt8[Tensor, "n h w 3"], affine: Int32[Tensor, "n 6"]) -> UInt8[Tensor, "n h w 3"]:
    """Returns the nearest source pixel of every pixel, black outside."""
    n, h, w, _ = pixels.shape
    a, b, c, d, e, f = affine[..., None, None].unbind(1)
    x, y, view = _count(w, pixels), _count(h, pixels)[:, None], _count(n, pixels)[:, None, None]
    from_x = (a * x + (b * y + c)) >> 16
    from_y = (d * x + (e * y + f)) >> 16
    at = (view * h + from_y.clamp(0, h - 1)) * w + from_x.clamp(0, w - 1)
    found = pixels.reshape(-1, 3).index_select(0, at.reshape(-1)).reshape(pixels.shape)
    inside = (from_x >= 0) & (from_x < w) & (from_y >= 0) & (from_y < h)
    return found * inside[..., None]


def _slots(pixels: UInt8[Tensor, "n h w 3"]) -> Int32[Tensor, "values"]:
    """Returns where every value's entry lies in n · 3 tables of 256 entries."""
    table = _count(3 * len(pixels), pixels).reshape(-1, 1, 1, 3)
    return (256 * table + pixels).reshape(-1)


def _look_up(pixels: UInt8[Tensor, "n h w 3"], tables: UInt8[Tensor, "n 3 256"]) -> UInt8[Tensor, "n h w 3"]:
    """Returns every value's entry in its view's and channel's table."""
    return tables.reshape(-1).index_select(0, _slots(pixels)).reshape(pixels.shape)


def _tables(
    pixels: UInt8[Tensor, "n h w 3"],
    op: UInt8[Tensor, "n"],
    point: UInt8[Tensor, "n 256"],
    stretch: Float64[Tensor, "256 2"],
) -> UInt8[Tensor, "n 3 256"]:
    """Returns the new value of each value, by view and channel."""
    # Counted in any order: sums of integers do not depend on it. (Told to be deterministic, torch sorts first: slower.)
    slots = _slots(pixels)
    one = torch.ones((), dtype=torch.int32, device=pixels.device).expand(slots.shape)
    histogram = torch.zeros(3 * len(pixels) * 256, dtype=torch.int32, device=pixels.device).index_add(0, slots, one)
    histogram = histogram.reshape(-1, 3, 256)
    op = op[:, None, None]
    table = torch.where(op == int(Op.AutoContrast), _stretched(histogram, stretch), point[:, None])
    return torch.where(op == int(Op.Equalize), _equalized(histogram, pixels[0, ..., 0].numel()), table)


def _stretched(histogram: Int32[Tensor, "n 3 256"], stretch: Float64[Tensor, "256 2"]) -> UInt8[Tensor, "n 3 256"]:
    """Returns AutoContrast's table: each channel's lowest value to 0 and its highest to 255.

    Pillow computes value · scale - lowest · scale in float64 and truncates, and where the result should be whole, 255
    above all, float64 decides which byte comes out. A few thousand numbers.
    """
    value = _count(256, histogram)
    low = torch.where(histogram > 0, value, 255).amin(-1, keepdim=True)
    high = torch.where(histogram > 0, value, 0).amax(-1, keepdim=True)
    scale = stretch.index_select(0, (high - low).reshape(-1)).reshape(*low.shape, 2)
    from_zero = value * scale[..., 0] + value * scale[..., 1]
    offset = low * scale[..., 0] + low * scale[..., 1]
    return torch.where(high > low, (from_zero - offset).clamp(0, 255).to(torch.uint8), value.to(torch.uint8))


def _equalized(histogram: Int32[Tensor, "n 3 256"], area: int) -> UInt8[Tensor, "n 3 256"]:
    """Equalizes: the values of each channel, ``area`` in all, as evenly frequent as a table can make them."""
    value = _count(256, histogram)
    high = torch.where(histogram > 0, value, 0).amax(-1, keepdim=True)
    step = (area - torch.where(value == high, histogram, 0).sum(-1, keepdim=True, dtype=torch.int32)) // 255
    below = step // 2 + histogram.cumsum(-1, dtype=torch.int32) - histogram
    equalized = torch.where(step > 0, (below // step.clamp(min=1)).clamp(max=255), value)
    return equalized.to(torch.uint8)


def _base(pixels: UInt8[Tensor, "n h w 3"], op: UInt8[Tensor, "n"]) -> Int16[Tensor, "n h w 3"]:
    """Returns a blend's base: the pixel's grey for Color, the view's mean grey for Contrast, else the view smoothed."""
    op = op[:, None, None, None]
    grey = _grey(pixels)
    area = grey[0].numel()
    mean = (2 * grey.sum((1, 2, 3), keepdim=True) + area) // (2 * area)  # rounded half up, as Pillow's float64 does
    base = torch.where(op == int(Op.Contrast), mean.to(torch.int16), grey)
    return torch.where(op == int(Op.Sharpness), _smoothed(pixels), base)


def _blend(
    pixels: UInt8[Tensor, "n h w 3"],
    base: Int16[Tensor, "n h w 3"],
    factor: Float32[Tensor, "n 2"],
) -> UInt8[Tensor, "n h w 3"]:
    """Blends from the base (factor 0) to the pixels (1) and beyond, clipped, truncated.

    Factor 1 gives the pixels back whatever the base: that is how all operations pass that blend nothing.
    """
    difference = (pixels - base).to(torch.float32)
    high, low = factor[:, None, None, None].unbind(-1)
    mixed = base + (high * difference + low * difference)
    return mixed.clamp(0, 255).to(torch.uint8)


def _grey(pixels: UInt8[Tensor, "n h w 3"]) -> Int16[Tensor, "n h w 1"]:
    """Returns the luma of every pixel, 0 … 255."""
    red, green, blue = pixels.to(torch.int32).split(1, dim=-1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.int16)


def _smoothed(pixels: UInt8[Tensor, "n h w 3"]) -> Int16[Tensor, "n h w 3"]:
    """Returns the 3 × 3 mean whose centre weighs 5 of 13, rounded; the border stays."""
    _, h, w, _ = pixels.shape
    value = pixels.to(torch.int16)
    total = 4 * value
    for down, right in product((-1, 0, 1), repeat=2):
        total = total + value.roll((down, right), (1, 2))  # wrong at the border; at most 13 · 255
    # (2 · total + 13) // 26, as a product: equal for all totals to 3315.
    mean = ((2 * total + 13).to(torch.int32) * 10083 >> 18).to(torch.int16)
    return torch.where(_inner(h, pixels)[:, None, None] & _inner(w, pixels)[:, None], mean, value)


def _inner(side: int, like: Tensor) -> Bool[Tensor, "side"]:
    """Says which of the positions 0 … side - 1 have two neighbours."""
    at = _count(side, like)
    return (at > 0) & (at < side - 1)
