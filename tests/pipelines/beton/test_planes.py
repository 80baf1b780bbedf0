"""Planes become the pixels that Pillow decodes, of every size and pair of chroma values, and no more than is asked."""

import numpy as np
import pytest

from pipelines.beton.format import FULL, PLANES, QUARTER, bytes_of
from pipelines.beton.planes import planes_to_rgb, rgb_of
from pipelines.beton.turbojpeg import Decoder
from pipelines.errors import DataError
from tests.support.image_kinds import image_kinds
from tests.support.planes_of_sizes import assert_pillows_pixels, every_size, jpeg


def test_pictures_of_small_sizes_are_pillows() -> None:
    """Of the sizes up to 40 × 40, all within 5 × 5 and every 17th; tests/soak takes all of them."""
    few = [size for number, size in enumerate(every_size()) if max(size) <= 5 or number % 17 == 0]
    assert assert_pillows_pixels(few) == len(few) * len(PLANES) > 500


@pytest.mark.parametrize("luma", [0, 1, 100, 254, 255])
def test_every_pair_of_chroma_values(luma: int) -> None:
    """libjpeg's formula, in whole numbers of 64 bits."""
    cb, cr = np.meshgrid(np.arange(256), np.arange(256))
    planes = np.concatenate([np.full(65536, luma), cb.ravel(), cr.ravel()]).astype(np.uint8)
    blue, red, half = cb - 128, cr - 128, 1 << 15
    added = [91881 * red + half, -22554 * blue - 46802 * red + half, 116130 * blue + half]
    expected = np.clip(luma + (np.stack(added, -1) >> 16), 0, 255)
    np.testing.assert_array_equal(rgb_of(FULL, planes, 256, 256), expected)


@pytest.mark.parametrize("subsampling", PLANES)
def test_only_what_some_crop_touches_is_written(subsampling: str) -> None:
    kind, height, width = PLANES[subsampling], 37, 29
    with Decoder() as decoder:
        _, planes = decoder.planes(jpeg(width, height, subsampling))
    planes.flags.writeable = False
    whole = rgb_of(kind, planes, height, width)
    crops = np.array([[3, 5, 10, 9], [8, 11, 20, 18], [30, 0, 7, 3]], np.int32)  # top, left, height, width
    crop = np.stack([np.zeros_like(crops), crops], 1)  # of the second sample
    marked = [np.full(whole.size, mark, np.uint8) for mark in (0, 255)]
    for rgb in marked:
        planes_to_rgb(planes, np.uint8(kind), height, width, crop, 1, rgb)
    written = (marked[0] == marked[1]).reshape(whole.shape).all(-1)
    np.testing.assert_array_equal(marked[0].reshape(whole.shape)[written], whole[written])
    for top, left, rows, columns in crops.tolist():
        assert written[top : top + rows, left : left + columns].all()
    assert not written[28:30].any()
    assert not written[3:8, :4].any()
    assert not written[3:8, 14:].any()


def test_bytes_of_numbers_and_of_arrays_agree() -> None:
    assert bytes_of(QUARTER, 5, 7) == 35 + 2 * 3 * 4
    kinds, heights, widths = np.array([0, *range(1, 7)]), np.arange(7) + 1, 9 - np.arange(7)
    each = [int(bytes_of(kind, height, width)) for kind, height, width in zip(kinds, heights, widths, strict=True)]
    assert bytes_of(kinds, heights, widths).tolist() == each


def test_what_has_no_such_planes_has_none() -> None:
    kinds = image_kinds()
    with Decoder() as decoder:
        for kind in ("JPEG 4:2:0", "JPEG 4:2:2", "JPEG progressive", "JPEG grey", "JPEG restarts in rows"):
            assert decoder.planes(kinds[kind]) is not None, kind
        for kind in ("JPEG RGB", "JPEG Adobe transform 0", "JPEG CMYK", "JPEG YCCK"):
            assert decoder.planes(kinds[kind]) is None, kind
        with pytest.raises(DataError, match="subsampling"):
            decoder.planes(kinds["JPEG sampling ['0x42', '0x11', '0x11']"])
