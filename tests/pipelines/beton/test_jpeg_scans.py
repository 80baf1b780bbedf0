"""Which JPEGs' pixels are coded without anything that decoders have to make guesses about."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from pipelines.beton import jpeg_scans
from pipelines.beton.jpeg_scans import is_regular
from pipelines.samples.image_header import jpeg_header

KINDS = {
    "baseline": {},
    "4:4:4": {"subsampling": "4:4:4"},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 2},
    "progressive restarts": {"progressive": True, "restart_marker_rows": 1},
}


def jpeg(**how: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=95, **how)
    return buffer.getvalue()


def regular(content: bytes) -> bool:
    header = jpeg_header(content)
    assert header is not None
    assert is_regular(memoryview(bytearray(content)), header) == is_regular(content, header)
    return is_regular(content, header)


@pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)
def test_what_encoders_write_is_regular_and_nothing_less_or_more(how):
    content = jpeg(**how)
    assert regular(content)
    assert not regular(content + b"\0")
    for cut in (1, 2, 3, 100, len(content) // 3):
        assert not regular(content[:-cut])
        assert not regular(content[:-cut] + b"\0")


def test_a_marker_is_found_wherever_it_stands():
    draw = random.Random(0)
    for size in (0, 1, 2, 511, 512, 513, 1024, 5000):
        for at in {0, 1, 510, 511, 512, 513, size - 2, size - 1, *draw.choices(range(5000), k=5)}:
            content = np.random.default_rng(size).choice(np.array([0, 7], np.uint8), size)
            if 0 <= at < size:
                content[at] = 0xFF
            if at + 1 < size and at >= 0:
                content[at + 1] = 0xD9
            expected = at if 0 <= at < size - 1 else size
            assert jpeg_scans._next_marker(content, np.int64(0)) == expected
            if 0 < expected < size:
                assert jpeg_scans._next_marker(content, expected) == expected


@pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)
def test_any_marker_among_the_pixels_is_irregular(how):
    content, draw = jpeg(**how), random.Random(0)
    scan = jpeg_header(content).scan + 20
    for marker in (*range(1, 0xD0), *range(0xD8, 256)):
        at = draw.randrange(scan, scan + 1000)
        if content[at - 1] != 0xFF:
            assert not regular(content[:at] + bytes((0xFF, marker)) + content[at:]), (at, marker)


def test_restart_markers_stand_in_their_order():
    content = jpeg(restart_marker_blocks=1)
    assert content.count(b"\xff\xd0") > 1
    assert not regular(content.replace(b"\xff\xd3", b"\xff\xd4", 1))
    assert not regular(content.replace(b"\xff\xd3", b"", 1))
    assert not regular(content.replace(b"\xff\xdd\x00\x04\x00\x01", b"\xff\xdd\x00\x04\x00\x00", 1))


def test_a_progressive_jpeg_lacks_no_scan():
    content = jpeg(progressive=True)
    last = content.rindex(b"\xff\xc4", 0, content.rindex(b"\xff\xda"))
    assert not regular(content[:last] + b"\xff\xd9")
    first = content.index(b"\xff\xda")
    second = content.index(b"\xff\xc4", first)
    assert not regular(content[:first] + content[second:])  # without the first
