"""The libturbojpeg binding against Pillow, from Python, from threads and from a numba kernel."""

import ctypes
import io
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from pipelines.beton import turbojpeg
from pipelines.errors import DataError, MissingDependency

PHOTOGRAPH = Image.fromarray(load_sample_image("china.jpg"))


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


CASES = {
    "4:2:0": (jpeg(PHOTOGRAPH, quality=90, subsampling="4:2:0"), "4:2:0"),
    "4:4:4": (jpeg(PHOTOGRAPH, quality=96, subsampling="4:4:4"), "4:4:4"),
    "4:2:2": (jpeg(PHOTOGRAPH, quality=75, subsampling="4:2:2"), "4:2:2"),
    "grey": (jpeg(PHOTOGRAPH.convert("L"), quality=90), "grey"),
    "odd size": (jpeg(PHOTOGRAPH.crop((3, 5, 200, 138)), quality=60, subsampling="4:2:0"), "4:2:0"),
    "progressive": (jpeg(PHOTOGRAPH, quality=85, progressive=True), "4:2:0"),
}


@pytest.mark.parametrize("case", CASES)
def test_decodes_pillows_bytes(case: str) -> None:
    data, subsampling = CASES[case]
    expected = pillow(data)
    with turbojpeg.Decoder() as decoder:
        assert decoder.header(data) == (expected.shape[1], expected.shape[0], subsampling)
        rgb = np.zeros_like(expected)
        decoder.decode(data, rgb)
        np.testing.assert_array_equal(rgb, expected)
        rgb[:] = 0
        decoder.decode(np.frombuffer(data, np.uint8), rgb)  # an array, such as a page of a file, will do too
        np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize(
    "data",
    [
        CASES["4:2:0"][0][:20_000],
        CASES["4:4:4"][0][:300],
        b"",
        b"not a picture",
        jpeg(PHOTOGRAPH.convert("CMYK")),
    ],
    ids=["half", "header cut", "empty", "text", "cmyk"],
)
def test_what_cannot_be_decoded_raises_and_leaves_the_decoder_usable(data: bytes) -> None:
    good, _ = CASES["4:2:0"]
    rgb = np.zeros((427, 640, 3), np.uint8)
    with turbojpeg.Decoder() as decoder:
        with pytest.raises(DataError, match=r"libturbojpeg cannot decode the image: \S"):
            decoder.decode(data, rgb)
        rgb[:] = 0
        decoder.decode(good, rgb)
    np.testing.assert_array_equal(rgb, pillow(good))


@pytest.mark.parametrize(
    "memory",
    [
        np.zeros((640, 427, 3), np.uint8),
        np.zeros((427, 1280, 3), np.uint8)[:, ::2],
    ],
    ids=["size", "strides"],
)
def test_memory_that_does_not_fit_is_refused(memory: NDArray[np.uint8]) -> None:
    with turbojpeg.Decoder() as decoder, pytest.raises(ValueError, match="contiguous uint8 memory"):
        decoder.decode(CASES["4:2:0"][0], memory)


def test_a_closed_decoder_says_so() -> None:
    decoder = turbojpeg.Decoder()
    decoder.close()
    decoder.close()
    with pytest.raises(ValueError, match="closed"):
        decoder.header(CASES["4:2:0"][0])


def test_threads_with_a_decoder_each() -> None:
    def decode(data: bytes) -> NDArray[np.uint8]:
        with turbojpeg.Decoder() as decoder:
            found = decoder.header(data)
            rgb = np.zeros((found.height, found.width, 3), np.uint8)
            decoder.decode(data, rgb)
        return rgb

    jobs = [data for data, _ in CASES.values()] * 5
    with ThreadPoolExecutor(4) as pool:
        for data, rgb in zip(jobs, pool.map(decode, jobs), strict=True):
            np.testing.assert_array_equal(rgb, pillow(data))


def test_a_numba_kernel_may_call_it() -> None:
    library = turbojpeg.library()
    read, decode = library.decompress_header, library.decompress

    @numba.njit(nogil=True)
    def kernel(handle, data, size, header, rgb):  # type: ignore[no-untyped-def]
        header[:] = 0
        at = header.ctypes.data
        if read(handle, data.ctypes, size, at, at + 4, at + 8, at + 12) != 0 or header[0] == 0:
            return -2
        return decode(handle, data.ctypes, size, rgb.ctypes, header[0], 0, header[1], turbojpeg.RGB, turbojpeg.EXACT)

    data, _ = CASES["4:4:4"]
    page, header, rgb = np.frombuffer(data, np.uint8), np.zeros(4, np.int32), np.zeros((427, 640, 3), np.uint8)
    handle = np.uintp(library.create())
    try:
        assert kernel(handle, page, len(page), header, rgb) == 0
        np.testing.assert_array_equal(rgb, pillow(data))
        assert header[:2].tolist() == [640, 427]
        assert kernel(handle, page, 20_000, header, rgb) == -1  # damage is seen
        assert kernel(handle, page, 100, header, rgb) == -2
    finally:
        library.destroy(int(handle))


def test_its_release_is_known() -> None:
    assert turbojpeg.version()[0].isdigit()


def test_absence_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: str) -> ctypes.CDLL:
        raise OSError(f"{path}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(MissingDependency, match="apt-get install libturbojpeg0"):
        turbojpeg.library.__wrapped__()
