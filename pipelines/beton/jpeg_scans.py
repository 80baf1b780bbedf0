"""Compiled: whether a JPEG's pixels are coded without anything that decoders have to make guesses about."""

import numpy as np
from numpy.typing import NDArray

from pipelines.augment.kernel import kernel
from pipelines.samples.image_header import Buffer, JpegHeader

_BLOCK = 512
"""Bytes that are searched at once for a marker: long enough for vectors, short enough to be searched again."""
_TABLES, _QUANTIZATION, _RESTARTS, _SCAN, _END = 0xC4, 0xDB, 0xDD, 0xDA, 0xD9
_NOTHING = 14
"""More than the lowest bit of any coefficient that a scan may leave for later ones."""


def is_regular(data: Buffer, header: JpegHeader) -> bool:
    """Whether only what belongs there follows the header of a JPEG.

    That is coded pixels, restart markers in their order, further scans with their tables up to the last bit of each
    coefficient, and an end-of-image marker as the last two bytes. Of the rest libjpeg merely warns, if at all: whether
    it is an error is up to its caller, and what it shows instead of the pixels differs between its releases.
    """
    content = np.frombuffer(data, np.uint8)
    content.flags.writeable = False  # one type, compiled once
    return bool(_is_regular(content, np.int64(header.scan), header.components, header.progressive, header.restarts))


@kernel
def _is_regular(data: NDArray[np.uint8], at: np.int64, components: int, progressive: bool, restarts: bool) -> bool:
    """``is_regular`` of uint8 data [bytes] whose first scan begins at byte ``at``."""
    ids, lowest = np.full(components, -1, np.int64), np.full((components, 64), _NOTHING, np.uint8)
    whole = False
    while at + 4 <= data.size and data[at] == 0xFF and not whole:
        marker = data[at + 1]
        if marker not in (_TABLES, _QUANTIZATION, _RESTARTS, _SCAN):
            return False
        length = np.int64(data[at + 2]) << 8 | np.int64(data[at + 3])
        segment = data[at + 4 : at + 2 + length]
        at += 2 + length
        if length < 3 or at >= data.size:
            return False
        if marker == _RESTARTS:
            restarts = True
        if marker == _SCAN:
            if not _note_scan(segment, ids, lowest, progressive):
                return False
            whole = segment[0] == components and not progressive  # nothing is left for another scan
            at = _end_of_scan(data, at, restarts)
            if at + 2 == data.size:
                return bool(data[at + 1] == _END and lowest.max() == 0)
    return False


@kernel
def _note_scan(
    segment: NDArray[np.uint8], ids: NDArray[np.int64], lowest: NDArray[np.uint8], progressive: bool
) -> bool:
    """Writes to ``lowest`` [components, 64] down to which bit a scan, uint8 segment [bytes], codes which coefficients.

    ``ids`` [components] names the components in the order of their first scans. False where the segment is no scan's,
    or its scan does not follow the ones before.
    """
    count = np.int64(segment[0])
    if segment.size != 4 + 2 * count or count < 1:
        return False
    first, last, high, low = np.int64(0), np.int64(63), np.int64(0), np.int64(0)
    if progressive:
        first, last = np.int64(segment[1 + 2 * count]), np.int64(segment[2 + 2 * count])
        high, low = np.int64(segment[3 + 2 * count] >> 4), np.int64(segment[3 + 2 * count] & 15)
    if first > last or last > 63:
        return False
    for part in range(count):
        row, name = 0, np.int64(segment[1 + 2 * part])
        while row < ids.size and ids[row] != -1 and ids[row] != name:
            row += 1
        if row == ids.size:
            return False
        ids[row] = name
        for coefficient in range(first, last + 1):
            if lowest[row, coefficient] != (high or _NOTHING):  # coded before, or not begun
                return False
            lowest[row, coefficient] = low
    return True


@kernel
def _end_of_scan(data: NDArray[np.uint8], at: np.int64, restarts: bool) -> np.int64:
    """Returns where the first marker after a scan's pixels is that is no restart marker in its turn."""
    at, following = _next_marker(data, at), 0xD0
    while restarts and at + 1 < data.size and data[at + 1] == following:
        at, following = _next_marker(data, at + 2), 0xD0 | ((following + 1) & 7)
    return at


@kernel
def _next_marker(data: NDArray[np.uint8], at: np.int64) -> np.int64:
    """Returns where the first marker at or after ``at`` is in uint8 data [bytes]; its length where there is none."""
    while at + _BLOCK < data.size:
        first, second = data[at : at + _BLOCK], data[at + 1 : at + _BLOCK + 1]
        found = False
        for byte in range(_BLOCK):  # to its end, so that it is compiled to vectors
            found |= (first[byte] == 0xFF) & (second[byte] != 0)
        if found:
            break
        at += _BLOCK
    while at + 1 < data.size:
        if data[at] == 0xFF and data[at + 1] != 0:
            return at
        at += 1
    return np.int64(data.size)
