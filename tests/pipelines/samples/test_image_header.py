"""The one reader of JPEG markers: what the listing, the converter and dali ask of it, on usual and damaged files."""

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.samples import image_header
from pipelines.samples.image_header import JpegHeader, is_ended, jpeg_header, jpeg_size, orientation

WIDTH, HEIGHT = 30, 20


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def turned(value: int, order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[image_header.ORIENTATION] = value
    return jpeg(exif=exif)


def several() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    return buffer.getvalue()


def header_of(content: bytes) -> JpegHeader:
    found = jpeg_header(content)
    assert found is not None
    return found


def test_the_largest_picture_is_pillows() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert 2 * Image.MAX_IMAGE_PIXELS == image_header.MOST_PIXELS


@pytest.mark.parametrize("wrap", [bytes, memoryview])
@pytest.mark.parametrize(("mode", "components", "common"), [("RGB", 3, True), ("L", 1, True), ("CMYK", 4, False)])
def test_size_and_kind(mode: str, components: int, common: bool, wrap: type) -> None:
    content = jpeg(mode)
    found = jpeg_header(wrap(content))
    assert found is not None
    assert (found.width, found.height, found.components, found.common) == (WIDTH, HEIGHT, components, common)
    assert content[found.scan : found.scan + 2] == b"\xff\xda"
    assert jpeg_size(content) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(("coding", "common"), [(0xC0, True), (0xC1, True), (0xC2, True), (0xC3, False), (0xC9, False)])
def test_the_coding_decides_what_every_decoder_reads(coding: int, common: bool) -> None:
    content = jpeg().replace(b"\xff\xc0", bytes([0xFF, coding]))
    assert header_of(content).common == common
    assert (jpeg_size(content) is not None) == common


def test_a_long_header_is_read_to_its_end_but_not_by_the_listing() -> None:
    content = jpeg(icc_profile=bytes(40_000))
    assert header_of(content).scan > image_header.HEAD
    assert jpeg_size(content[: image_header.HEAD]) is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("value", "found"), [(1, 1), (6, 6), (8, 8), (9, 1), (0, 1)])
def test_the_orientation_of_exif(value: int, found: int, order: str) -> None:
    content = turned(value, order)
    assert orientation(content, header_of(content)) == found
    assert orientation(jpeg(), header_of(jpeg())) == 1


def test_a_directory_behind_the_header_says_nothing() -> None:
    content = bytearray(turned(6))
    at = content.index(b"Exif\0\0") + 10
    content[at : at + 4] = (60_000).to_bytes(4, "little")
    assert orientation(bytes(content), header_of(bytes(content))) == 1


def test_a_file_of_several_pictures_is_told() -> None:
    assert header_of(several()).several
    assert (header_of(several()).width, header_of(several()).height) == (WIDTH, HEIGHT)
    assert not header_of(jpeg()).several


def test_the_end_is_any_end_marker_behind_the_header() -> None:
    content = jpeg(exif=turned(6)[:200])  # a thumbnail's own end would lie in the header
    assert is_ended(content, header_of(content))
    assert is_ended(content + b"padding", header_of(content))
    assert not is_ended(content[:-2], header_of(content))


def damaged(at: bytes, offset: int, new: bytes) -> bytes:
    content = bytearray(jpeg())
    start = content.index(at) + offset
    content[start : start + len(new)] = new
    return bytes(content)


SIZE_AT = 5  # bytes from the start-of-frame marker to the height


@pytest.mark.parametrize(
    ("content", "converter", "listing"),
    [
        (damaged(b"\xff\xc0", SIZE_AT, b"\0\0"), None, (WIDTH, 0)),  # the listing says that it has no pixels
        (damaged(b"\xff\xc0", SIZE_AT - 1, b"\x0c"), (WIDTH, HEIGHT), None),  # 12 bits: Pillow is asked
        (jpeg().replace(b"\xff\xda", b"\xff\xff\xda"), (WIDTH, HEIGHT), None),  # a fill byte
        (jpeg().replace(b"\xff\xdb", b"\xff\xf1", 1), (WIDTH, HEIGHT), None),  # a segment that nobody knows
        (jpeg().replace(b"\xff\xc4", b"\xff\xd0", 1), None, None),  # a marker that belongs among the pixels
        (jpeg()[: jpeg().index(b"\xff\xda")], None, None),  # cut within the header
        (jpeg()[: jpeg().index(b"\xff\xda") + 6], (WIDTH, HEIGHT), None),  # cut at its very end: Pillow refuses
        (jpeg()[:2] + b"\0" + jpeg()[3:], None, None),
        (b"\0" + jpeg(), None, None),
        (b"", None, None),
    ],
)
def test_unusual_and_damaged_headers(
    content: bytes, converter: tuple[int, int] | None, listing: tuple[int, int] | None
) -> None:
    found = jpeg_header(content)
    assert (None if found is None else (found.width, found.height)) == converter
    assert jpeg_size(content) == listing
