"""Makes of one file what the .beton stores: its bytes as they are, a smaller JPEG, its pixels, or nothing; and why.

Pillow is the judge, as in the torchvision pipeline: what it decodes is stored, what it refuses is skipped. It is asked
only where a JPEG's markers, or libturbojpeg, leave a doubt.
"""

import io
import threading
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipelines.beton.encoding import Encoding as Encoding
from pipelines.beton.format import LONGEST_SIDE
from pipelines.beton.into_planes import planes_of
from pipelines.beton.jpeg_scans import is_regular
from pipelines.beton.notes import notes_of_image, notes_of_jpeg
from pipelines.beton.source_file import Refused, read_file
from pipelines.beton.status import Status
from pipelines.beton.turbojpeg import Decoder
from pipelines.errors import DataError
from pipelines.samples.image_header import (
    MOST_PIXELS,
    START,
    Buffer,
    JpegHeader,
    is_ended,
    jpeg_header,
    may_be_turned,
    too_few_bytes,
)
from pipelines.samples.reading import Reading, orientation_of


class StoredImage(NamedTuple):
    """Holds one sample as it goes into the file."""

    index: int  # type: ignore[assignment]  # in the listing (tuple.index is not missed)
    label: int
    status: Status
    content: Buffer = b""  # may lie in the memory that the file was read into
    width: int = 0
    height: int = 0
    digest: int = 0  # of the content
    source: int = 0  # of the file
    reason: str = ""  # "kind: detail; kind: detail", notes on the file; empty where there are none


class _Picture(NamedTuple):
    """Holds a file that was looked at: either its own bytes will do, or there are pixels."""

    size: tuple[int, int]
    keep: bool
    pixels: Image.Image | None
    notes: list[str]
    planes: tuple[int, NDArray[np.uint8]] | None = None  # kind and bytes, where they are what is stored


_NO_PLANES = "its planes do not give the same pixels: stored as without --mode planes"
_own = threading.local()


def digest(content: Buffer) -> int:
    """Returns the CRC-32, computed without the GIL.

    Any damage of up to 32 bits in a row changes it, any other all but once in 2**32. SHA-256 would take as long as
    reading and writing together.
    """
    return zlib.crc32(content)


def stored_image(path: str, index: int, label: int, encoding: Encoding, memory: memoryview) -> StoredImage:
    """Reads, checks and, where it must be, converts one file. Raises DataError where reading fails for no fault of its.

    The file is read into ``memory`` where it fits: fresh memory would cost as much as the reading.
    """
    try:
        data = read_file(path, memory)
        picture = _looked_at(path, data, encoding, encoding.raw(index))
        content, size, status = _content(data, picture, encoding, encoding.raw(index))
    except Refused as refused:
        return StoredImage(index, label, Status.SKIPPED, reason=_one_line(str(refused)))
    source = digest(data)
    own = source if status == Status.KEPT else digest(content)
    return StoredImage(index, label, status, content, *size, own, source, "; ".join(map(_one_line, picture.notes)))


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace(";", ",")


def _looked_at(path: str, data: Buffer, encoding: Encoding, raw: bool) -> _Picture:
    header = jpeg_header(data)
    if header is not None:
        _refuse_absurd(header.width, header.height)
        if reason := too_few_bytes(header, len(data), encoding.pixels_per_byte):
            raise Refused(reason)
        upright = encoding.exif == "ignore" or not may_be_turned(data)
        if upright and header.common and is_ended(data, header) and _leaves_no_doubt(data, header):
            shrink = encoding.max_resolution is not None and max(header.width, header.height) > encoding.max_resolution
            size, notes = (header.width, header.height), notes_of_jpeg(data, header)
            if encoding.mode == "planes" and not shrink:
                return _in_planes(path, data, header, encoding, notes)
            if not (raw or shrink or encoding.check == "decode"):
                return _Picture(size, True, None, notes)
            if not shrink and (pixels := _decoded(data, header, scratch=not raw)) is not None:
                return _Picture(size, not raw, Image.fromarray(pixels) if raw else None, notes)
    return _by_pillow(path, data, header, encoding.reading)


def _leaves_no_doubt(data: Buffer, header: JpegHeader) -> bool:
    """Whether libturbojpeg decodes the file as Pillow does, or reports a fault.

    Without a word, releases differ in a header with a second frame, and in a progressive JPEG that lacks scans.
    """
    return header.plain and (not header.progressive or is_regular(data, header))


def _refuse_absurd(width: int, height: int) -> None:
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise Refused(f"absurd dimensions: {width} × {height}, refused before decoding")


def _decoder() -> Decoder:
    """Returns this thread's decoder."""
    if not hasattr(_own, "decoder"):
        _own.decoder, _own.memory = Decoder(), np.empty(0, np.uint8)
    return _own.decoder


def _in_planes(path: str, data: Buffer, header: JpegHeader, encoding: Encoding, notes: list[str]) -> _Picture:
    """Returns a JPEG that is to be stored as planes: with them, or else as it is, with a note."""
    try:
        planes = planes_of(_decoder(), data, (header.width, header.height), encoding.check == "decode")
    except DataError as error:
        _own.warning = str(error).rpartition("the image: ")[2]
        return _by_pillow(path, data, header, encoding.reading)
    return _Picture((header.width, header.height), True, None, notes if planes else [*notes, _NO_PLANES], planes)


def _decoded(data: Buffer, header: JpegHeader, scratch: bool) -> NDArray[np.uint8] | None:
    """Returns uint8 [height, width, 3], in memory that the next call overwrites where ``scratch``.

    None where libturbojpeg reports anything: then Pillow says how bad it is.
    """
    decoder = _decoder()
    count = 3 * header.width * header.height
    if scratch and len(_own.memory) < count:
        _own.memory = np.empty(count, np.uint8)
    memory = _own.memory[:count] if scratch else np.empty(count, np.uint8)
    pixels = memory.reshape(header.height, header.width, 3)
    try:
        decoder.decode(np.frombuffer(data, np.uint8), pixels)
    except (DataError, ValueError) as error:
        _own.warning = str(error).rpartition("the image: ")[2]
        return None
    return pixels


def _by_pillow(path: str, data: Buffer, header: JpegHeader | None, reading: Reading) -> _Picture:
    """Decodes with Pillow, which is the judge, and which names a file's kind, where that is not what its name says."""
    _own.warning, warning = "", getattr(_own, "warning", "")
    try:
        with Image.open(io.BytesIO(data)) as image:
            _refuse_absurd(*image.size)
            notes, jpeg = notes_of_image(path, data, image, reading), image.format in ("JPEG", "MPO")
            pixels = reading.rgb(image)
            turned = reading.turns and orientation_of(image) != 1
            keep = jpeg and image.mode in ("RGB", "L") and not turned
    except (Refused, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise Refused(f"absurd dimensions: {error}") from error
    except UnidentifiedImageError as error:
        raise Refused("truncated: it ends within its header" if header is None and data[:3] == START
                       else "not an image") from error  # fmt: skip
    except Exception as error:  # Pillow's plug-ins raise whatever the damage makes them raise
        cut = "truncated" in str(error).lower()
        raise Refused(f"{'truncated' if cut else 'damaged'}: {error or type(error).__name__}") from error
    if keep and header is not None and not _leaves_no_doubt(data, header) and not _shows(data, header, pixels):
        keep = False
        notes.append("libjpeg's releases differ in what they make of it")
    elif keep and header is not None and not is_ended(data, header):
        notes.append("no end-of-image marker: it decodes all the same")
    elif keep and warning:
        notes.append(f"libjpeg warns: {warning}")
    return _Picture(pixels.size, keep, pixels, notes)


def _shows(data: Buffer, header: JpegHeader, image: Image.Image) -> bool:
    """Whether the ffcv pipeline will show ``image``: libturbojpeg decodes the same, or leaves it to Pillow."""
    if (header.width, header.height) != image.size:
        return False
    decoded = _decoded(data, header, scratch=True)
    return decoded is None or np.array_equal(decoded, np.asarray(image))


def _content(data: Buffer, picture: _Picture, encoding: Encoding, raw: bool) -> tuple[Buffer, tuple[int, int], Status]:
    limit = encoding.max_resolution
    shrink = limit is not None and max(picture.size) > limit
    if picture.planes is not None:
        kind, planes = picture.planes
        return planes.data, picture.size, Status.of_planes(kind)
    if picture.keep and not (raw or shrink):
        return data, picture.size, Status.KEPT
    pixels = picture.pixels
    assert pixels is not None, "whoever does not decode keeps the bytes"
    if shrink and limit is not None:
        pixels = _shrunk(pixels, limit)
    if raw or not (picture.keep or shrink):  # a PNG's pixels stay what they are
        return pixels.tobytes(), pixels.size, Status.PIXELS
    buffer = io.BytesIO()
    pixels.save(buffer, "JPEG", quality=encoding.quality)
    jpeg = buffer.getvalue()
    if encoding.mode == "planes" and (found := planes_of(_decoder(), jpeg, pixels.size, encoding.check == "decode")):
        return found[1].data, pixels.size, Status.of_planes(found[0])
    return jpeg, pixels.size, Status.ENCODED


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    """Returns the image with its longer side ``longest``, the other one rounded down as FFCV does, but at least 1."""
    scale = longest / max(image.size)
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)
