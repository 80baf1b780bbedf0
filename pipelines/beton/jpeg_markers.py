"""What a JPEG's markers say, read without decoding: a few microseconds a file, against milliseconds for its pixels."""

import struct
from typing import NamedTuple

Buffer = bytes | memoryview
START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_HEAD = 1 << 13
"""Bytes in which most headers end; only they are looked at in Python."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF markers; their number says how the picture is coded."""
_COMMON = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive, Huffman-coded: what every decoder reads."""
_ORIENTATION = 0x0112


class Markers(NamedTuple):
    """Of the first picture in the file."""

    width: int
    height: int
    components: int
    common: bool  # 8 bits, one or three components, coded as usual
    scan: int  # byte at which the pixels begin
    orientation: int  # EXIF's, 1 where it says none
    several: bool  # a multi-picture file (MPO)


def markers_of(data: Buffer) -> Markers | None:
    """None where the markers do not lead to a picture; a decoder may be more patient."""
    if (found := _read(bytes(data[:_HEAD]))) is None and len(data) > _HEAD:  # thumbnails and profiles make it longer
        found = _read(bytes(data))
    return found


def is_ended(data: Buffer, markers: Markers) -> bool:
    """Whether there is an end-of-image marker. Pixels hold none, so any behind the header is the picture's."""
    return data[-2:] == _END or bytes(data).rfind(_END, markers.scan) >= 0


def _read(data: bytes) -> Markers | None:
    at, orientation, several = 2, 1, False
    frame: tuple[int, int, int, int, int] | None = None
    try:
        while data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xFF:  # a fill byte
                at += 1
                continue
            if marker <= 0x01 or 0xD0 <= marker <= 0xD9:
                return None
            if marker == 0xDA:
                if frame is None or not frame[2] or not frame[3]:
                    return None
                process, precision, height, width, components = frame
                common = process in _COMMON and precision == 8 and components in (1, 3)
                return Markers(width, height, components, common, at, orientation, several)
            if marker in _FRAMES:
                frame = (marker, *struct.unpack_from(">BHHB", data, at + 4))
            elif marker == 0xE1 and data.startswith(b"Exif\0\0", at + 4):
                orientation = _orientation(data, at + 10)
            elif marker == 0xE2 and data.startswith(b"MPF\0", at + 4):
                several = True
            at += 2 + (data[at + 2] << 8 | data[at + 3])
    except (IndexError, struct.error):  # the file ends within its header
        return None
    return None


def _orientation(data: bytes, tiff: int) -> int:
    """The tag's value in the first directory of the TIFF structure at ``tiff``; 1 where there is none to be had."""
    order = {b"II": "<", b"MM": ">"}.get(data[tiff : tiff + 2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, tiff + 4)
        (entries,) = struct.unpack_from(f"{order}H", data, tiff + directory)
        for entry in range(min(entries, 100)):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, tiff + directory + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
