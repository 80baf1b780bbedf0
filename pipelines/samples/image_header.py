"""What a JPEG's markers say before anything is decoded: its size, its coding, and whether it is to be turned."""

import struct
from typing import NamedTuple

from pipelines.samples.reading import ORIENTATION

Buffer = bytes | memoryview
MOST_PIXELS = 178_956_970
"""Pillow refuses to decode more (a decompression bomb); what claims more is refused before anything is decoded."""
PIXELS_PER_BYTE = 1000.0
"""Most pixels that a JPEG may claim for each of its bytes, by default.

Huffman coding takes a bit or more for each 8 × 8 block, so no whole JPEG reaches 512; an all-white one has 64 to 256.
What claims more lacks most of its pixels, and a few bytes a scan can make a decoder go over all of them for minutes.
Other formats have no such bound (one colour may take 30 bytes in WebP), but go over their pixels once.
"""
HEAD = 1 << 14
"""Bytes in which most headers end; where one does not, all of the file is looked at."""
START = b"\xff\xd8\xff"
"""How every JPEG begins."""

_END = b"\xff\xd9"
_EXIF = b"Exif\0\0"
_SHORT = 3  # TIFF's type of 16 bits
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers: they hold the size, and their number says how the picture is coded."""
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive, Huffman-coded: what every decoder reads."""
_SILENT = frozenset({*range(0xE0, 0xF0), 0xDB, 0xC4, 0xDD, 0xFE})
"""Segments that say nothing of the size: APPn, tables, restart interval, comment."""

Size = tuple[int, int]  # width, height


class JpegHeader(NamedTuple):
    """Holds what the markers before the pixels of a JPEG say; of several pictures in one file, those of the first."""

    width: int
    height: int
    components: int
    coding: int  # the start-of-frame marker
    precision: int  # bits
    scan: int  # byte at which the pixels begin
    exif: int  # byte at which EXIF's tables begin; 0 where there are none
    restarts: bool  # the header announces restart markers among the pixels
    several: bool  # a multi-picture file (MPO)
    plain: bool  # nothing lies before the pixels but one frame and what says nothing of the size

    @property
    def progressive(self) -> bool:
        """Whether its pixels are coded in several scans, each refining the ones before."""
        return self.coding == 0xC2

    @property
    def common(self) -> bool:
        """Whether it is coded as most are: Huffman, 8 bits, grey or three components."""
        return self.coding in _HUFFMAN and self.precision == 8 and self.components in (1, 3)


def jpeg_header(data: Buffer) -> JpegHeader | None:
    """Returns the header of a JPEG's first ``HEAD`` bytes or more.

    None where no JPEG begins there, or its markers do not lead to pixels; a decoder may be more patient.
    """
    if (found := _walk(bytes(data[:HEAD]))) is None and len(data) > HEAD:  # thumbnails and profiles make it longer
        found = _walk(bytes(data))
    return found if found is not None and found.width and found.height else None


def jpeg_size(head: bytes) -> Size | None:
    """Returns (width, height) of a JPEG that begins with ``head``; None where the reader must be Pillow."""
    found = _walk(head)
    if found is None or not found.plain:
        return None
    usual = found.coding in _HUFFMAN and found.precision == 8 and found.components in (1, 3, 4)
    return (found.width, found.height) if usual else None


def too_few_bytes(header: JpegHeader | None, size: int, pixels_per_byte: float) -> str:
    """Returns what is wrong with a Huffman-coded JPEG whose ``size`` in bytes cannot hold its pixels; else nothing."""
    if header is None or header.coding not in _HUFFMAN or header.width * header.height <= pixels_per_byte * size:
        return ""
    return f"too few bytes for its {header.width} × {header.height} pixels"


def is_ended(data: Buffer, header: JpegHeader) -> bool:
    """Whether there is an end-of-image marker. Pixels hold none, so any behind the header is the picture's."""
    return data[-2:] == _END or bytes(data).rfind(_END, header.scan) >= 0


def orientation(data: Buffer, header: JpegHeader) -> int:
    """Returns the rotation (1 to 8) that EXIF's first directory asks for; 1, which is none, where it says nothing."""
    if not header.exif:
        return 1
    found = _orientation_entry(bytes(data[: header.scan]), header.exif)
    return found[1] if found is not None and 1 <= found[1] <= 8 else 1


def _orientation_entry(head: bytes, tiff: int) -> tuple[int, int] | None:
    """Returns the type and value of the orientation in the tables at byte ``tiff``; type 0 where they have none.

    None where the tables cannot be read.
    """
    order = {b"II": "<", b"MM": ">"}.get(head[tiff : tiff + 2])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", head, tiff + 4)
        (entries,) = struct.unpack_from(f"{order}H", head, tiff + directory)
        for entry in range(min(entries, 100)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", head, tiff + directory + 2 + 12 * entry)
            if tag == ORIENTATION:
                return kind, value
    except struct.error:  # the directory lies behind the header
        return None
    return (0, 1) if entries <= 100 else None


def may_be_turned(data: Buffer) -> bool:
    """Returns whether Pillow may find that a JPEG is to be turned: False only where its header surely says otherwise.

    It reads EXIF, joined from all its segments, and XMP where EXIF says nothing.
    """
    header = jpeg_header(data)
    if header is None:
        return True
    head = bytes(data[: header.scan])
    if b"tiff:Orientation" in head or head.count(_EXIF) > 1:
        return True
    if not header.exif:
        return _EXIF in head
    kind, value = _orientation_entry(head, header.exif) or (0, 0)
    return not ((kind == 0 or kind == _SHORT) and value == 1)


def _walk(data: bytes) -> JpegHeader | None:
    """Goes from marker to marker up to the pixels; None where the markers do not lead there."""
    if data[:3] != START:
        return None
    at, exif, restarts, several, plain = 2, 0, False, False, True
    frame: tuple[int, int, int, int, int] | None = None
    try:
        while data[at] == 0xFF:
            marker = data[at + 1]
            if marker in _SILENT:
                if marker == 0xE1 and data.startswith(_EXIF, at + 4):
                    exif = at + 10
                elif marker == 0xE2 and data.startswith(b"MPF\0", at + 4):
                    several = True
                elif marker == 0xDD:
                    restarts = data[at + 4 : at + 6] > b"\0\0"
            elif marker in _FRAMES:
                plain = plain and frame is None
                frame = (marker, *struct.unpack_from(">BHHB", data, at + 4))
            elif marker == 0xDA:
                if frame is None:
                    return None
                coding, precision, height, width, components = frame
                plain = plain and at + 10 <= len(data)  # else Pillow finds the file cut
                return JpegHeader(width, height, components, coding, precision, at, exif, restarts, several, plain)
            elif marker == 0xFF:  # a fill byte
                at, plain = at + 1, False
                continue
            elif marker <= 0x01 or 0xD0 <= marker <= 0xD9:  # these belong among the pixels, or nowhere
                return None
            else:
                plain = False
            length = data[at + 2] << 8 | data[at + 3]
            if length < 2:
                plain = False
            at += 2 + length
    except (IndexError, struct.error):  # the file ends within its header
        return None
    return None
