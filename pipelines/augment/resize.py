"""Pillow's ``crop().resize(BILINEAR)`` byte for byte: two separable passes with 22-bit fixed-point weights.

Shapes: image uint8 [H, W, 3] in C order; crop (top, left, height, width) int32 [4]; resized (height, width) int32 [2];
window (top, left) int32 [2] within the resized crop; out uint8 [size, size, 3] in C order; scratch uint8 [bytes].
A *plane* is a flat uint8 array of rows ``stride`` bytes apart, the first one at ``at``.
"""

from collections.abc import Callable
from typing import no_type_check

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipelines.augment.kernel import kernel

_BITS = 22
"""Fraction bits of a weight: with 8 bits of pixel and 2 to spare an int32. Weights are ≥ 0 and sum to 1: no clip."""
_HALF = np.int32(1 << (_BITS - 1))
_BLOCK = 4
"""Rows that the horizontal pass computes together, sharing each weight's load."""


@kernel
def resize_into(
    image: NDArray[np.uint8],
    crop: NDArray[np.int32],
    resized: NDArray[np.int32],
    window: NDArray[np.int32],
    mirror: bool,
    scratch: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """Cuts ``crop`` out of ``image``, resizes it and writes its ``window``, mirrored or not, to ``out``.

    A pass that changes nothing needs no case of its own: its weights are exactly 0 and 1.
    """
    size, image_stride = out.shape[0], 3 * image.shape[1]
    height, width = np.int64(crop[2]), np.int64(crop[3])
    start_y, weight_y = _weights(height, resized[0], window[0], size, False)
    start_x, weight_x = _weights(width, resized[1], window[1], size, mirror)
    # Only the rows and columns that the window reads.
    first_row, rows = start_y.min(), start_y.max() - start_y.min() + weight_y.shape[1]
    first_column, columns = start_x.min(), start_x.max() - start_x.min() + weight_x.shape[1]
    start_y -= first_row
    start_x -= first_column
    plane = image.reshape(-1)
    at = (crop[0] + first_row) * image_stride + 3 * (crop[1] + first_column)
    finished = out.reshape(size, 3 * size)
    # The bytes depend on the order of the passes (uint8 between them). Pillow 13's rule, found by experiment.
    if height > resized[0] and height - resized[0] > 2 * (width - resized[1]):
        middle = scratch[: size * 3 * columns].reshape(size, 3 * columns)
        _vertical(plane, at, image_stride, start_y, weight_y, middle)
        _horizontal(middle.reshape(-1), 0, 3 * columns, columns, start_x, weight_x, finished)
    else:
        middle = scratch[: rows * 3 * size].reshape(rows, 3 * size)
        _horizontal(plane, at, image_stride, columns, start_x, weight_x, middle)
        _vertical(middle.reshape(-1), 0, 3 * size, start_y, weight_y, finished)


@kernel
def scratch_bytes(crop: NDArray[np.int32], size: int) -> int:
    """Returns the bytes that the crops [..., 4] need for views of ``size`` pixels: the picture between the passes."""
    longest = 0
    for side in crop.reshape(-1, 4)[:, 2:].copy().reshape(-1):
        longest = max(longest, int(side))
    return 3 * size * max(longest, size)


@kernel
def _reach(length: int, resized: int, output: int) -> tuple[int, int]:
    """Returns the inputs [low, high) of ``length`` that one of ``resized`` outputs averages."""
    scale = length / resized
    radius = max(scale, 1.0)
    centre = (output + 0.5) * scale
    return max(int(centre - radius + 0.5), 0), min(int(centre + radius + 0.5), length)


@kernel
def _weights(
    length: int, resized: int, first: int, count: int, mirror: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Returns start [count] and fixed-point weights [count, taps] of the outputs first … first + count - 1.

    A mirrored picture is a mirrored table. All outputs have as many taps; short ones (at an edge) get zeros, placed
    such that no tap lies outside.
    """
    scale = length / resized
    shrink = 1.0 / max(scale, 1.0)
    taps = 0
    for output in range(first, first + count):
        low, high = _reach(length, resized, output)
        taps = max(taps, high - low)
    start, weight, triangle = np.empty(count, np.int64), np.zeros((count, taps), np.int32), np.empty(taps)
    for i in range(count):
        output = first + (count - 1 - i if mirror else i)
        low, high = _reach(length, resized, output)
        start[i] = min(low, length - taps)
        centre, total = (output + 0.5) * scale, 0.0
        for k in range(high - low):
            triangle[k] = max(1.0 - abs((k + low - centre + 0.5) * shrink), 0.0)
            total += triangle[k]
        for k in range(high - low):
            weight[i, low - start[i] + k] = int(triangle[k] / total * (1 << _BITS) + 0.5)
    return start, weight


@kernel
def _vertical(
    plane: NDArray[np.uint8],
    at: int,
    stride: int,
    start: NDArray[np.int64],
    weight: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Makes each row of ``out`` [n, bytes] a weighted sum of ``taps`` rows of the plane; the inner loops vectorise."""
    count = out.shape[1]
    total = np.empty(count, np.int32)
    taps = weight.shape[1]
    for y in range(out.shape[0]):
        for j in range(count):
            total[j] = _HALF
        # Two rows a sweep: half the traffic on `total`.
        for k in range(0, taps - 1, 2):
            one, two = weight[y, k], weight[y, k + 1]
            begin = at + (start[y] + k) * stride
            upper, lower = plane[begin : begin + count], plane[begin + stride : begin + stride + count]
            for j in range(count):
                total[j] += one * np.int32(upper[j]) + two * np.int32(lower[j])
        if taps % 2:
            one = weight[y, taps - 1]
            begin = at + (start[y] + taps - 1) * stride
            upper = plane[begin : begin + count]
            for j in range(count):
                total[j] += one * np.int32(upper[j])
        row = out[y]
        for j in range(count):
            row[j] = np.uint8(total[j] >> _BITS)


@kernel
def _horizontal(
    plane: NDArray[np.uint8],
    at: int,
    stride: int,
    columns: int,
    start: NDArray[np.int64],
    weight: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Makes each pixel of ``out`` [rows, 3 · n] a weighted sum of ``taps`` neighbours in its row of the plane."""
    rows, out_stride, taps = out.shape[0], out.shape[1], weight.shape[1]
    flat_weight, flat_out = weight.reshape(-1), out.reshape(-1)
    blocks = (rows - 1) // _BLOCK  # the last row is never in a block: see below
    for y in range(0, blocks * _BLOCK, _BLOCK):
        row = at + y * stride
        for x in range(start.size):
            where = y * out_stride + 3 * x
            _four_pixels(plane, row + 3 * start[x], stride, flat_weight, x * taps, taps, flat_out, where, out_stride)
    # A pixel is read as 4 bytes; after the plane's last one there may be no byte left, so these rows move out first.
    padded = np.zeros(3 * columns + 1, np.uint8)
    for y in range(blocks * _BLOCK, rows):
        row = at + y * stride
        padded[: 3 * columns] = plane[row : row + 3 * columns]
        for x in range(start.size):
            where = y * out_stride + 3 * x
            _one_pixel(padded, 3 * start[x], 0, flat_weight, x * taps, taps, flat_out, where, 0)


@no_type_check  # numba and LLVM objects
def _weighted_pixels(rows: int) -> Callable[..., None]:
    """Returns a function that computes one output pixel in each of ``rows`` rows.

    Written in LLVM's vectors because LLVM does not find them in loops over 3 channels: lanes are the bytes of a pixel
    and one of the next, the fourth sum is thrown away. A third of the time of scalar code.
    """
    int8x3, int8x4, int32x4 = (ir.VectorType(ir.IntType(bits), n) for bits, n in ((8, 3), (8, 4), (32, 4)))
    lanes = ir.VectorType(ir.IntType(32), 3)

    @intrinsic
    def weighted_pixels(context, plane, at, stride, weight, weight_at, taps, out, out_at, out_stride):
        size = types.intp
        signature = types.void(plane, size, size, weight, size, size, out, size, size)

        def generate(context, build, signature, arguments):
            plane, at, stride, weight, weight_at, taps, out, out_at, out_stride = arguments
            pixels, weights, target = (
                context.make_array(signature.args[i])(context, build, array).data
                for i, array in ((0, plane), (3, weight), (6, out))
            )
            sums = [cgutils.alloca_once_value(build, int32x4([int(_HALF)] * 4)) for _ in range(rows)]
            with cgutils.for_range(build, taps) as loop:
                scalar = build.load(build.gep(weights, [build.add(weight_at, loop.index)]))
                spread = build.insert_element(int32x4(ir.Undefined), scalar, ir.IntType(32)(0))
                spread = build.shuffle_vector(spread, int32x4(ir.Undefined), int32x4([0] * 4))
                source = build.add(at, build.mul(loop.index, at.type(3)))
                for row in range(rows):
                    address = build.bitcast(build.gep(pixels, [source]), int8x4.as_pointer())
                    pixel = build.zext(build.load(address, align=1), int32x4)
                    build.store(build.add(build.load(sums[row]), build.mul(pixel, spread)), sums[row])
                    source = build.add(source, stride)
            for row in range(rows):
                pixel = build.trunc(build.lshr(build.load(sums[row]), int32x4([_BITS] * 4)), int8x4)
                pixel = build.shuffle_vector(pixel, int8x4(ir.Undefined), lanes([0, 1, 2]))
                build.store(pixel, build.bitcast(build.gep(target, [out_at]), int8x3.as_pointer()), align=1)
                out_at = build.add(out_at, out_stride)
            return context.get_dummy_value()

        return signature, generate

    return weighted_pixels


_one_pixel, _four_pixels = _weighted_pixels(1), _weighted_pixels(_BLOCK)
