"""JPEGs of every small size and subsampling, and whether their planes give the pixels that Pillow decodes."""

import io
from collections.abc import Iterable

import numpy as np

from pipelines.augment import pillow
from pipelines.beton.format import PLANES, bytes_of
from pipelines.beton.planes import rgb_of
from pipelines.beton.turbojpeg import Decoder
from tests.support.images import photo

LARGEST = 40
_PICTURE = photo(LARGEST, LARGEST, 1)


def assert_pillows_pixels(sizes: Iterable[tuple[int, int]]) -> int:
    """Raises AssertionError where a picture of a size (width, height) differs; returns how many there were."""
    count = 0
    with Decoder() as decoder:
        for width, height in sizes:
            for subsampling, kind in PLANES.items():
                content = jpeg(width, height, subsampling)
                found, planes = decoder.planes(content)
                assert (found, len(planes)) == (kind, bytes_of(kind, height, width))
                expected = np.asarray(pillow.decode_content(content))
                what = f"{subsampling}, {width} × {height}"
                np.testing.assert_array_equal(rgb_of(kind, planes, height, width), expected, what)
                count += 1
    return count


def jpeg(width: int, height: int, subsampling: str) -> bytes:
    """Returns a JPEG with this subsampling, one of format.PLANES."""
    if subsampling == "4:4:0":
        return _turned(jpeg(height, width, "4:2:2"))
    buffer, image = io.BytesIO(), _PICTURE.crop((0, 0, width, height))
    if subsampling == "grey":
        image.convert("L").save(buffer, "JPEG", quality=92)
    else:
        image.save(buffer, "JPEG", quality=92, subsampling=subsampling)
    return buffer.getvalue()


def _turned(half_columns: bytes) -> bytes:
    """Returns a 4:2:2 JPEG as one of 4:4:0, which Pillow does not write: height and width, and the factors, swapped.

    There are as many blocks as before, at other places: another picture, but a whole one.
    """
    content, frame = bytearray(half_columns), half_columns.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = content[frame + 7 : frame + 9] + content[frame + 5 : frame + 7]
    assert content[frame + 11] == 0x21
    content[frame + 11] = 0x12
    return bytes(content)


def every_size() -> list[tuple[int, int]]:
    """Returns all sizes of 1 … 40 pixels squared."""
    return [(width, height) for width in range(1, LARGEST + 1) for height in range(1, LARGEST + 1)]
