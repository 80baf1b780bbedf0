"""RandAugment's operations on values, on the CPU: look-ups, folds and blends, byte for byte Pillow's.

Shapes: view uint8 [h, w, 3] in C order, changed in place; values uint8 [bytes]; a table is uint8 [3, 256].

Loops are written such that LLVM compiles them to vectors, which it does where numbers stay within 16 or 32 bits.
numba's own sums and products are 64 bits wide, so each is cut down again.
"""

from typing import no_type_check

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipelines.augment.kernel import kernel

_TOP = np.int16(255)


@kernel
def fold(values: NDArray[np.uint8], added: np.int16, mask: np.int16, turn: np.int16) -> None:
    """Adds (clipped), keeps the bits of ``mask``, and mirrors what is ``turn`` or more.

    That is Invert, Posterize, Solarize and SolarizeAdd. A look-up would do as well, and takes four times as long.
    """
    for j in range(values.size):
        value = np.int16(np.int16(values[j]) + added)
        value = np.int16(min(max(value, np.int16(0)), _TOP) & mask)
        values[j] = np.uint8(np.int16(_TOP - value) if value >= turn else value)


@kernel
def blend_with(base: np.int32, values: NDArray[np.uint8], factor: np.float32) -> None:
    """Changes the brightness (``base`` is 0) or the contrast (the mean luma): blends every value with one."""
    for j in range(values.size):
        values[j] = _blend(base, values[j], factor)


@kernel
def look_up(table: NDArray[np.uint8], view: NDArray[np.uint8]) -> None:
    """Replaces every value by its entry in table [3, 256]."""
    red, green, blue = table[0], table[1], table[2]
    flat = view.reshape(-1, 3)
    for i in range(flat.shape[0]):
        flat[i, 0] = red[flat[i, 0]]
        flat[i, 1] = green[flat[i, 1]]
        flat[i, 2] = blue[flat[i, 2]]


@kernel
def histogram(view: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Counts [3, 256] of the values of each channel."""
    count = np.zeros((3, 256), np.int32)
    flat = view.reshape(-1, 3)
    for i in range(flat.shape[0]):
        count[0, flat[i, 0]] += 1
        count[1, flat[i, 1]] += 1
        count[2, flat[i, 2]] += 1
    return count


@kernel
def extremes(view: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns the lowest and the highest value of each channel, [3] each."""
    lowest, highest = view[0].reshape(-1).copy(), view[0].reshape(-1).copy()
    for y in range(1, view.shape[0]):
        row = view[y].reshape(-1)
        for j in range(row.size):
            lowest[j], highest[j] = min(lowest[j], row[j]), max(highest[j], row[j])
    for j in range(3, lowest.size):
        lowest[j % 3], highest[j % 3] = min(lowest[j % 3], lowest[j]), max(highest[j % 3], highest[j])
    return lowest[:3], highest[:3]


@kernel
def stretched(lowest: NDArray[np.uint8], highest: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretches (AutoContrast): each channel's lowest value to 0 and its highest to 255."""
    table = np.empty((3, 256), np.uint8)
    for channel in range(3):
        low, high = np.int64(lowest[channel]), np.int64(highest[channel])
        scale = 255.0 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        for value in range(256):
            table[channel, value] = min(max(int(value * scale + offset), 0), 255)
    return table


@kernel
def equalized(counts: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Equalizes: each channel's values as evenly frequent as a table can make them."""
    table = np.empty((3, 256), np.uint8)
    for channel in range(3):
        used = np.flatnonzero(counts[channel])
        step = (counts[channel].sum() - counts[channel, used[-1]]) // 255
        below = step // 2
        for value in range(256):
            table[channel, value] = min(below // step, 255) if step else value
            below += counts[channel, value]
    return table


@kernel
def _grey(red: int, green: int, blue: int) -> np.int32:
    """Returns the luma of a pixel, 0..255."""
    weighted = np.int32(np.int32(19595) * np.int32(red) + np.int32(38470) * np.int32(green))
    return np.int32(np.int32(weighted + np.int32(np.int32(7471) * np.int32(blue) + np.int32(32768))) >> 16)


@kernel
def _blend(base: int, value: int, factor: np.float32) -> np.uint8:
    """Blends from ``base`` (factor 0) to ``value`` (1) and beyond, clipped, truncated; in float32, as Pillow does."""
    mixed = np.float32(np.int32(base)) + factor * np.float32(np.int32(np.int32(value) - np.int32(base)))
    return np.uint8(min(max(np.int32(mixed), np.int32(0)), np.int32(255)))


@kernel
def mean_grey(view: NDArray[np.uint8]) -> int:
    """Returns the mean luma, rounded half up."""
    total = 0
    flat = view.reshape(-1, 3)
    for i in range(flat.shape[0]):
        total += _grey(flat[i, 0], flat[i, 1], flat[i, 2])
    return int(total / flat.shape[0] + 0.5)


@kernel
def color(view: NDArray[np.uint8], factor: np.float32) -> None:
    """Changes the colour: blends each pixel with its own grey."""
    grey = np.empty(3 * view.shape[1], np.uint8)
    for y in range(view.shape[0]):
        pixels, row = view[y], view[y].reshape(-1)
        for x in range(view.shape[1]):
            luma = np.uint8(_grey(pixels[x, 0], pixels[x, 1], pixels[x, 2]))
            grey[3 * x], grey[3 * x + 1], grey[3 * x + 2] = luma, luma, luma
        for j in range(row.size):  # a loop of its own, flat: it vectorises
            row[j] = _blend(grey[j], row[j], factor)


@kernel
def _sum(one: np.uint8, two: np.uint8, three: np.uint8) -> np.int16:
    """Returns a sum in 16 bits."""
    return np.int16(np.int16(np.int16(one) + np.int16(two)) + np.int16(three))


@no_type_check  # numba and LLVM objects
@intrinsic
def _thirteenth(context, total):
    """Returns (2 · total + 13) // 26, int16: a total of at most 3315 over 13, rounded."""

    def generate(context, build, signature, given):
        # As the upper half of a 16-bit product, for which processors have vectors; equal for all these totals.
        twice = build.add(build.shl(given[0], ir.IntType(16)(1)), ir.IntType(16)(13))
        product = build.mul(build.zext(twice, ir.IntType(32)), ir.IntType(32)(40330))
        return build.trunc(build.lshr(product, ir.IntType(32)(20)), ir.IntType(16))

    return types.int16(types.int16), generate


@kernel
def sharpness(source: NDArray[np.uint8], factor: np.float32, view: NDArray[np.uint8]) -> None:
    """Blends ``view``, which holds ``source``, with the 3 × 3 mean whose centre weighs 5 of 13; the border stays."""
    height, stride = view.shape[0], 3 * view.shape[1]
    plane, out, smooth = source.reshape(-1), view.reshape(-1), np.empty(stride, np.int16)
    for y in range(1, height - 1):
        at = y * stride
        above, here, below = plane[at - stride : at], plane[at : at + stride], plane[at + stride : at + 2 * stride]
        inner = out[at + 3 : at + stride - 3]
        # Indices that cannot be negative: those of the form j - 3 would be tested for it, and the loop not vectorise.
        for j in range(inner.size):
            total = np.int16(_sum(above[j], above[j + 3], above[j + 6]) + _sum(below[j], below[j + 3], below[j + 6]))
            total = np.int16(
                total + np.int16(_sum(here[j], here[j + 3], here[j + 6]) + np.int16(4 * np.int16(here[j + 3])))
            )
            smooth[j] = _thirteenth(total)
        for j in range(inner.size):
            inner[j] = _blend(smooth[j], here[j + 3], factor)
