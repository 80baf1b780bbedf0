"""Compiled: from luma and chroma to red, green and blue, in libjpeg's fixed-point numbers, 16 pixels at a time.

numba multiplies and shifts 64 bits, whatever the types of its operands, which leaves 4 numbers in a vector. So the
products are written for LLVM in 16 and 32 bits, for which processors have instructions.
"""

from typing import no_type_check

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipelines.augment.kernel import kernel

_ZERO, _TOP = np.int16(0), np.int16(255)
# Weights of the colour conversion, in 65536ths, less whole multiples that are added apart: 1.402 Cr is Cr + 26345 Cr,
# 1.772 Cb is 2 Cb - 14942 Cb, and -0.71414 Cr is 18734 Cr - Cr.
_RED, _BLUE = np.int16(26345), np.int16(-14942)


@no_type_check  # numba and LLVM objects
def _high_product(build, one, other):
    """Returns the upper half of a product of two 16-bit numbers; numba itself would multiply, and shift, 64 bits."""
    wide = [build.sext(number, ir.IntType(32)) for number in (one, other)]
    return build.trunc(build.ashr(build.mul(*wide), ir.Constant(ir.IntType(32), 16)), ir.IntType(16))


@no_type_check
def _rounded_product(build, chroma, weight):
    """Returns a product in 65536ths, a half rounded up: that of twice the number, rounded down, plus 1, halved."""
    one = ir.Constant(ir.IntType(16), 1)
    return build.ashr(build.add(_high_product(build, build.add(chroma, chroma), weight), one), one)


@no_type_check
@intrinsic
def _rounded(context, chroma, weight):
    """Returns chroma · weight / 65536, int16, a half rounded up."""
    return types.int16(types.int16, types.int16), lambda context, build, types, given: _rounded_product(build, *given)


@no_type_check
@intrinsic
def _green(context, cb, cr):
    """Returns what is added to luma, int16: (-22554 Cb - 46802 Cr) / 65536, a half rounded up."""

    def generate(context, build, signature, given):
        cb, cr = given
        of_cb, of_cr = ir.Constant(ir.IntType(16), -22554), ir.Constant(ir.IntType(16), 18734)
        whole = build.add(_rounded_product(build, cb, of_cb), build.sub(_high_product(build, cr, of_cr), cr))
        # The lower halves of the products, the rounding included, carry where their sum comes out smaller.
        lower = build.mul(cb, of_cb)
        carry = build.icmp_signed("<", build.add(lower, build.mul(cr, of_cr)), lower)
        return build.add(whole, build.zext(carry, ir.IntType(16)))

    return types.int16(types.int16, types.int16), generate


@kernel
def _clipped(value: np.int16) -> np.uint8:
    """Returns the value, at least 0 and at most 255."""
    return np.uint8(min(max(value, _ZERO), _TOP))


@kernel
def convert_row(
    luma: NDArray[np.uint8],
    cb: NDArray[np.int16],
    cr: NDArray[np.int16],
    r: NDArray[np.uint8],
    g: NDArray[np.uint8],
    b: NDArray[np.uint8],
) -> None:
    """Converts a row of Y, Cb - 128 and Cr - 128 to red, green and blue."""
    for x in range(luma.size):
        r[x] = _clipped(np.int16(np.int16(luma[x]) + np.int16(cr[x] + _rounded(cr[x], _RED))))
    for x in range(luma.size):
        b[x] = _clipped(np.int16(np.int16(luma[x]) + np.int16(np.int16(cb[x] + cb[x]) + _rounded(cb[x], _BLUE))))
    for x in range(luma.size):
        g[x] = _clipped(np.int16(np.int16(luma[x]) + _green(cb[x], cr[x])))


@kernel
def weave(r: NDArray[np.uint8], g: NDArray[np.uint8], b: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Writes rows of one colour each to a row of pixels."""
    for x in range(r.size):
        out[3 * x], out[3 * x + 1], out[3 * x + 2] = r[x], g[x], b[x]
