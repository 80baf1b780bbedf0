"""Compiled: from a batch's stored images to its finished views, each image decoded once, without the GIL."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import cpu
from pipelines.augment.kernel import kernel
from pipelines.augment.operation_tables import OperationTables
from pipelines.augment.policy import Plan
from pipelines.beton import turbojpeg

# Compiled code takes functions and numbers from plain module variables.
_functions = turbojpeg.for_kernels()
_create, _destroy = _functions.create, _functions.destroy
_header, _decompress = _functions.decompress_header, _functions.decompress
_RGB, _EXACT = turbojpeg.RGB, turbojpeg.EXACT


class Stored(NamedTuple):
    """n images: where they lie in a file's bytes, and what they are."""

    offset: NDArray[np.int64]  # [n] first byte
    length: NDArray[np.int64]  # [n] bytes
    height: NDArray[np.int32]  # [n] pixels
    width: NDArray[np.int32]  # [n]
    raw: NDArray[np.bool_]  # [n] RGB pixels, not a JPEG

    def at(self, index: NDArray[np.int64]) -> "Stored":
        """Those of ``index``, in its order."""
        return Stored(self.offset[index], self.length[index], self.height[index], self.width[index], self.raw[index])


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
    """Decode images first … last - 1 of a batch once each; write all their views to uint8 out [v, n, size, size, 3].

    ``content`` is the file, uint8 [bytes]. Where libturbojpeg reports anything, failed [n] becomes true and ``out`` is
    left alone. The handle and the scratch memory live as long as the call: they cost it microseconds, and no thread
    has to own, share or free any.
    """
    area = np.int64(0)
    for sample in range(first, last):
        area = max(area, np.int64(stored.height[sample]) * np.int64(stored.width[sample]))
    decoded, scratch = np.empty(3 * area, np.uint8), np.empty(cpu.scratch_size(plan), np.uint8)
    fields = np.empty(4, np.int32)  # width, height, subsampling, colour space
    width, height, subsampling, space = [fields.ctypes.data + 4 * field for field in range(4)]
    handle = _create()
    for sample in range(first, last):
        h, w = np.int64(stored.height[sample]), np.int64(stored.width[sample])
        image = content[stored.offset[sample] : stored.offset[sample] + stored.length[sample]]
        rgb = decoded[: 3 * h * w]
        if stored.raw[sample]:
            for byte in range(rgb.size):  # numba's slice assignment takes 15 times as long as this loop (a memcpy)
                rgb[byte] = image[byte]
        else:
            jpeg = image.ctypes.data
            fields[:] = 0
            code = _header(handle, jpeg, image.size, width, height, subsampling, space)
            # The size is checked because libturbojpeg would scale a larger picture and leave a smaller one's rest.
            if code == 0 and fields[0] == w and fields[1] == h:
                code = _decompress(handle, jpeg, image.size, rgb.ctypes.data, w, 0, h, _RGB, _EXACT)
            else:
                code = -1
            if code != 0:
                failed[sample] = True
                _destroy(handle)  # after a failure it may fail on good files too
                handle = _create()
                continue
        cpu.execute_image(rgb.reshape(h, w, 3), plan, sample, tables, scratch, out)
    _destroy(handle)
