"""Compiled: weighted sums of pixels, exact in 22 bits behind the point; the inner loops of a resize.

A weight is taken in two halves, high · 2048 + low, and the inputs in pairs: processors multiply 16-bit numbers and add
the products of two neighbours in one instruction, in half the time of one 32-bit product. LLVM has to be told so: it
finds neither that nor vectors in loops over 3 channels.

Weights are int32 [outputs, pairs, 2]: two weights' low halves in the 16-bit halves of one number, then their high ones.
They are ≥ 0 and sum to 1, so no sum overflows and no result needs to be clipped.
"""

from typing import no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BITS = 22
"""Fraction bits of a weight: with 8 bits of pixel and 2 to spare an int32."""
LOW_BITS = 11
"""Of those, the bits of the low half."""
ROWS = 4
"""Rows that the horizontal pass computes together, sharing each weight's load."""
COLUMNS = 32
"""Bytes of a row that the vertical pass computes together."""
READ = 8
"""Bytes that are read for a pair of pixels, which has 6."""

_INT8, _INT16, _INT32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_NONE = 8
"""A byte of zeros behind the 8 that were read."""
_NEIGHBOURS = [0, _NONE, 3, _NONE, 1, _NONE, 4, _NONE, 2, _NONE, 5, _NONE, _NONE, _NONE, _NONE, _NONE]
"""From R G B R G B to 16-bit numbers R R G G B B 0 0."""
_EIGHT = 8
"""Lanes of the vertical pass's vectors; the horizontal one has four: a pixel, and one that means nothing."""


@no_type_check  # numba and LLVM objects
def _vector(kind, count):
    return ir.VectorType(kind, count)


@no_type_check
def _shuffled(build, one, other, order):
    return build.shuffle_vector(one, other, _vector(_INT32, len(order))(list(order)))


@no_type_check
def _constant(number, lanes):
    return _vector(_INT32, lanes)([_INT32(number)] * lanes)


@no_type_check
def _addresses(context, build, signature, arguments, numbers):
    """Returns the addresses of some array arguments' first elements."""
    arrays = [(context.make_array(signature.args[number]), arguments[number]) for number in numbers]
    return [make(context, build, argument).data for make, argument in arrays]


@no_type_check
def _loaded(build, address, count):
    """Returns ``count`` bytes from an address on."""
    return build.load(build.bitcast(address, _vector(_INT8, count).as_pointer()), align=1)


@no_type_check
def _stored(build, values, address):
    """Writes bytes from an address on."""
    build.store(values, build.bitcast(address, values.type.as_pointer()), align=1)


@no_type_check
def _halves(build, weights, at, lanes):
    """Returns the low and the high halves of a pair of weights, spread over the lanes: twice int32 [2 · lanes]."""
    undefined = _vector(_INT32, lanes)(ir.Undefined)
    spread = []
    for half in (0, 1):
        number = build.load(build.gep(weights, [build.add(at, at.type(half))]))
        number = build.insert_element(undefined, number, _INT32(0))
        number = build.bitcast(_shuffled(build, number, undefined, [0] * lanes), _vector(_INT16, 2 * lanes))
        spread.append(build.sext(number, _vector(_INT32, 2 * lanes)))
    return spread


@no_type_check
def _new_sums(build, lanes):
    """Returns the variables of two sums: of low halves, which begins at a half to be rounded, and of high ones."""
    return [cgutils.alloca_once_value(build, _constant(value, lanes)) for value in (1 << (BITS - 1), 0)]


@no_type_check
def _add_products(build, sums, pixels, halves, lanes):
    """Adds the products of pixels [2 · lanes], of which neighbours belong together, and weights to both sums."""
    pixels = build.zext(pixels, _vector(_INT32, 2 * lanes))
    for total, half in zip(sums, halves, strict=True):
        products = build.mul(pixels, half)
        first, second = (_shuffled(build, products, products, range(at, 2 * lanes, 2)) for at in (0, 1))
        build.store(build.add(build.load(total), build.add(first, second)), total)


@no_type_check
def _rounded(build, sums, lanes):
    """Returns the bytes [lanes] that a pair of sums makes."""
    low, high = (build.load(total) for total in sums)
    whole = build.add(low, build.shl(high, _constant(LOW_BITS, lanes)))
    return build.trunc(build.lshr(whole, _constant(BITS, lanes)), _vector(_INT8, lanes))


@no_type_check
def _pixel_of_rows(rows, stored):
    """Returns a function that computes one output pixel in each of ``rows`` rows and writes ``stored`` bytes of each.

    Its arguments: plane, where the first row's first input begins, stride; weights, where the pixel's begin, pairs;
    out, where the first row's pixel goes, stride. Of 4 bytes that are written the last one means nothing.
    """

    @intrinsic
    def pixel_of_rows(context, plane, at, stride, weight, weight_at, pairs, out, out_at, out_stride):
        size = types.intp
        signature = types.void(plane, size, size, weight, size, size, out, size, size)

        def generate(context, build, signature, arguments):
            _, at, stride, _, weight_at, pairs, _, out_at, out_stride = arguments
            plane, weights, out = _addresses(context, build, signature, arguments, (0, 3, 6))
            sums, nothing = [_new_sums(build, 4) for _ in range(rows)], _vector(_INT8, READ)([_INT8(0)] * READ)
            with cgutils.for_range(build, pairs) as loop:
                halves = _halves(build, weights, build.add(weight_at, build.mul(loop.index, at.type(2))), 4)
                source = build.add(at, build.mul(loop.index, at.type(6)))
                for row in range(rows):
                    pixels = _shuffled(build, _loaded(build, build.gep(plane, [source]), READ), nothing, _NEIGHBOURS)
                    _add_products(build, sums[row], build.bitcast(pixels, _vector(_INT16, 8)), halves, 4)
                    source = build.add(source, stride)
            for row in range(rows):
                pixel = _rounded(build, sums[row], 4)
                _stored(build, _shuffled(build, pixel, pixel, range(stored)), build.gep(out, [out_at]))
                out_at = build.add(out_at, out_stride)
            return context.get_dummy_value()

        return signature, generate

    return pixel_of_rows


pixel_of_rows, last_pixel_of_rows, pixel_of_row = _pixel_of_rows(ROWS, 4), _pixel_of_rows(ROWS, 3), _pixel_of_rows(1, 3)


@no_type_check
@intrinsic
def sum_of_rows(context, plane, at, stride, weight, weight_at, taps, out, out_at):
    """Writes the weighted sum of ``taps`` rows, COLUMNS bytes of each from ``at`` on, to out."""
    size = types.intp
    signature = types.void(plane, size, size, weight, size, size, out, size)

    def generate(context, build, signature, arguments):
        _, at, stride, _, weight_at, taps, _, out_at = arguments
        plane, weights, out = _addresses(context, build, signature, arguments, (0, 3, 6))
        parts = range(0, COLUMNS, _EIGHT)
        sums = [_new_sums(build, _EIGHT) for _ in parts]
        with cgutils.for_range(build, build.lshr(build.add(taps, at.type(1)), at.type(1))) as loop:
            tap = build.mul(loop.index, at.type(2))
            halves = _halves(build, weights, build.add(weight_at, tap), _EIGHT)
            upper = build.add(at, build.mul(tap, stride))
            # Of an odd number of taps the last pair's second weight is 0, and there may be no such row.
            is_alone = build.icmp_signed("==", build.add(tap, at.type(1)), taps)
            lower = build.select(is_alone, upper, build.add(upper, stride))
            rows = [_loaded(build, build.gep(plane, [row]), COLUMNS) for row in (upper, lower)]
            for part, total in zip(parts, sums, strict=True):
                order = [at for column in range(part, part + _EIGHT) for at in (column, COLUMNS + column)]
                _add_products(build, total, _shuffled(build, *rows, order), halves, _EIGHT)
        for part, total in zip(parts, sums, strict=True):
            _stored(build, _rounded(build, total, _EIGHT), build.gep(out, [build.add(out_at, at.type(part))]))
        return context.get_dummy_value()

    return signature, generate
