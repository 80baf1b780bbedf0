"""Compiled: from a batch's stored images to its finished views, each image decoded once, without the GIL."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import cpu
from pipelines.augment.kernel import kernel
from pipelines.augment.operation_tables import OperationTables
from pipelines.augment.policy import Plan
from pipelines.beton import turbojpeg
from pipelines.beton.format import JPEG, RAW
from pipelines.beton.planes import planes_to_rgb

# Compiled code takes functions and numbers from plain module variables.
_functions = turbojpeg.for_kernels()
_create, _destroy = _functions.create, _functions.destroy
_header, _decompress = _functions.decompress_header, _functions.decompress
_RGB, _EXACT = turbojpeg.RGB, turbojpeg.EXACT


class Stored(NamedTuple):
    """Holds n images: where they lie in a file's bytes, and what they are."""

    offset: NDArray[np.int64]  # [n] first byte
    length: NDArray[np.int64]  # [n] bytes
    height: NDArray[np.int32]  # [n] pixels
    width: NDArray[np.int32]  # [n]
    kind: NDArray[np.uint8]  # [n] what the bytes are, one of format's kinds

    def at(self, index: NDArray[np.int64]) -> "Stored":
        """Returns those of ``index``, in its order."""
        return Stored(self.offset[index], self.length[index], self.height[index], self.width[index], self.kind[index])


@kernel
def decode_and_cut(
    content: NDArray[np.uint8],
    stored: Stored,
    plan: Plan,
    tables: OperationTables,
    first: int,
    last: int,
    out: NDArray[np.uint8],
    failed: NDArray[np.bool_],
) -> None:
    """Decodes images first … last - 1 of a batch once each; writes their views to uint8 out [v, n, size, size, 3].

    ``content`` is the file, uint8 [bytes]. Where libturbojpeg reports anything, failed [n] becomes true and ``out`` is
    left alone. The handle and the scratch memory live as long as the call: they cost it microseconds, and no thread
    has to own, share or free any.
    """
    area, jpegs = np.int64(0), False
    for sample in range(first, last):
        area = max(area, np.int64(stored.height[sample]) * np.int64(stored.width[sample]))
        jpegs |= stored.kind[sample] == JPEG
    decoded, scratch = np.empty(3 * area, np.uint8), np.empty(cpu.scratch_size(plan), np.uint8)
    handle = _create() if jpegs else np.uintp(0)
    for sample in range(first, last):
        h, w, kind = np.int64(stored.height[sample]), np.int64(stored.width[sample]), stored.kind[sample]
        image = content[stored.offset[sample] : stored.offset[sample] + stored.length[sample]]
        rgb = decoded[: 3 * h * w]
        if kind == RAW:
            for byte in range(rgb.size):  # numba's slice assignment takes 15 times as long as this loop (a memcpy)
                rgb[byte] = image[byte]
        elif kind != JPEG:
            planes_to_rgb(image, kind, h, w, plan.crop, sample, rgb)
        elif not _decoded(handle, image, h, w, rgb):
            failed[sample] = True
            _destroy(handle)  # after a failure it may fail on good files too
            handle = _create()
            continue
        cpu.execute_image(rgb.reshape(h, w, 3), plan, sample, tables, scratch, out)
    if jpegs:
        _destroy(handle)


@kernel
def _decoded(handle: int, jpeg: NDArray[np.uint8], height: int, width: int, rgb: NDArray[np.uint8]) -> bool:
    """Decodes a JPEG into uint8 rgb [3 · height · width]; False where libturbojpeg reports anything."""
    fields = np.zeros(4, np.int32)  # width, height, subsampling, colour space
    at, data = fields.ctypes.data, jpeg.ctypes.data
    # The size is checked because libturbojpeg would scale a larger picture and leave a smaller one's rest.
    if _header(handle, data, jpeg.size, at, at + 4, at + 8, at + 12) != 0 or fields[0] != width or fields[1] != height:
        return False
    return bool(_decompress(handle, data, jpeg.size, rgb.ctypes.data, width, 0, height, _RGB, _EXACT) == 0)
