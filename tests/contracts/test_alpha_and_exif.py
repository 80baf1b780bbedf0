"""Transparency and EXIF's rotation: the same pixels in all pipelines, those of Pillow's own functions."""

import io
import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipelines import open_source
from pipelines.augment import pillow
from pipelines.beton.convert import convert
from pipelines.beton.one_image import Encoding
from pipelines.beton.sidecar import sidecar_path
from pipelines.errors import DataError
from pipelines.order import EvaluationOrder
from pipelines.samples.image_header import may_be_turned
from pipelines.samples.listing import list_images
from pipelines.samples.reading import ORIENTATION, Reading
from pipelines.sources.options import Resources
from pipelines.views import EvaluationView
from tests.support.conversion import convert as converter
from tests.support.image_kinds import SIDE, image_kinds
from tests.support.images import photo
from tests.support.judged_images import assert_alike, judged, written

KINDS = image_kinds()
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "mean": (124, 116, 104)}


def jpeg(width: int, height: int, **how) -> bytes:
    buffer = io.BytesIO()
    photo(width, height, 3).save(buffer, "JPEG", **how)
    return buffer.getvalue()


def turned(orientation: int, order: str = "<") -> bytes:
    """EXIF that asks for an orientation."""
    exif = Image.Exif()
    exif.endian = order
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def segment(content: bytes) -> bytes:
    return b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content


def files() -> dict[str, bytes]:
    """Pictures of SIDE × SIDE pixels with transparency, or to be turned, and some of other shapes."""
    plain, upright = jpeg(SIDE, SIDE), turned(1)
    words = ("alpha", "transparent", "turned", "orientation 6", "orientation 3")
    chosen = {name: content for name, content in KINDS.items() if any(word in name for word in words)}
    chosen |= {f"JPEG orientation {turn}": jpeg(SIDE, SIDE, exif=turned(turn, "<>"[turn % 2])) for turn in range(10)}
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="8"/>'
    return chosen | {
        "JPEG XMP": plain[:2] + segment(xmp) + plain[2:],
        "JPEG upright, whatever XMP says": plain[:2] + segment(xmp) + segment(upright) + plain[2:],
        "JPEG EXIF twice": plain[:2] + segment(turned(6)) + segment(upright) + plain[2:],
        "JPEG damaged EXIF": plain[:2] + segment(turned(6)[:16]) + plain[2:],
        "JPEG wide": jpeg(SIDE, 2 * SIDE, exif=turned(6)),
        "JPEG high": jpeg(2 * SIDE, SIDE, exif=turned(8)),
        "grey JPEG turned": KINDS["JPEG grey"][:2] + segment(turned(5)) + KINDS["JPEG grey"][2:],
    }


FILES = files()


def by_pillow(content: bytes, reading: Reading) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    image = ImageOps.exif_transpose(image) if reading.exif == "turn" else image
    if reading.alpha != "drop" and image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUNDS[reading.alpha]), image.convert("RGBA"))
    return image.convert("RGB")


@pytest.mark.parametrize("alpha", ["drop", *BACKGROUNDS])
@pytest.mark.parametrize("exif", ["ignore", "turn"])
def test_the_reference_is_pillows_compositing_and_transposing(alpha, exif):
    reading, others = Reading(alpha, exif), 0
    for name, content in FILES.items():
        expected, plain = by_pillow(content, reading), by_pillow(content, Reading())
        np.testing.assert_array_equal(pillow.decode_content(content, reading), expected, name)
        others += expected.size != plain.size or not np.array_equal(expected, plain)
    assert others == {"dropignore": 0, "dropturn": 15}.get(alpha + exif, others)
    assert others > 4 or (alpha, exif) == ("drop", "ignore")


@pytest.mark.parametrize("reading", [Reading("white", "turn"), Reading("mean", "ignore")], ids=str)
def test_all_pipelines_show_the_same(reading, tmp_path):
    pytest.importorskip("nvidia.dali", reason="the optional pipeline 'dali' is not installed: pip install -e '.[dali]'")
    contents = [*FILES.values(), *[FILES["PNG alpha"]] * (-len(FILES) % 4)]
    listing = written(tmp_path, contents, reading)
    found = judged(listing, tmp_path / "some.beton", SIDE)
    assert_alike(found)
    for number, content in enumerate(contents):
        expected = by_pillow(content, reading)
        assert (listing.widths[number], listing.heights[number]) == expected.size
        if expected.size == (SIDE, SIDE):
            np.testing.assert_array_equal(found["torchvision"][number], expected, f"sample {number}")


def test_a_header_never_says_upright_where_pillow_turns():
    for name, content in FILES.items():
        orientation = Image.open(io.BytesIO(content)).getexif().get(ORIENTATION, 1) if "damaged" not in name else 1
        assert may_be_turned(content) or orientation not in range(2, 9), name
    assert not may_be_turned(jpeg(40, 30))
    assert not may_be_turned(jpeg(40, 30, exif=turned(1)))
    assert not may_be_turned(jpeg(40, 30, exif=turned(1, ">")))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of a turned JPEG, a plain one and a transparent PNG."""
    root = tmp_path_factory.mktemp("reading") / "data"
    (root / "train/class").mkdir(parents=True)
    for name, kind in {"0.jpg": "JPEG wide", "1.jpg": "JPEG orientation 1", "2.png": "PNG alpha"}.items():
        (root / "train/class" / name).write_bytes(FILES[kind])
    return root


def opened(listing, beton):
    pytest.importorskip("numba", reason="the pipeline 'ffcv' needs numba")
    order, view = EvaluationOrder(listing.indices, batch=3), EvaluationView(32, 32)
    open_source("ffcv", listing, order, view, Resources(threads=1, beton=beton)).close()


def test_a_file_of_another_reading_is_refused_with_the_command(data, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(data, root)
    white = list_images(root / "train", reading=Reading("white", "turn"))
    assert converter(root, "--split", "train", "--alpha", "white", "--exif", "turn") == 0
    said = capsys.readouterr().out
    assert "1  stored as pixels: turned as EXIF asks" in said
    assert "1  stored as pixels: transparency on white" in said
    beton = root / "ffcv/train.beton"
    opened(white, beton)
    with pytest.raises(DataError, match=r"converted with --alpha white --exif turn, .* as with neither.*again: python"):
        opened(list_images(root / "train"), beton)
    with pytest.raises(DataError, match=r"again: .* --split train --alpha black --exif turn$"):
        opened(list_images(root / "train", reading=Reading("black", "turn")), beton)


def test_a_file_of_an_older_version_was_read_as_by_default(data, tmp_path):
    listing, beton = list_images(data / "train"), tmp_path / "old.beton"
    convert(listing, beton, Encoding(), 1)
    old = json.loads(sidecar_path(beton).read_text())
    for name in asdict(Reading()):
        assert old["parameters"].pop(name) in ("drop", "ignore")
    sidecar_path(beton).write_text(json.dumps(old))
    opened(listing, beton)
    changed = beton.stat().st_mtime_ns
    convert(listing, beton, Encoding(), 1, resume=True)  # complete already
    assert beton.stat().st_mtime_ns == changed
    with pytest.raises(DataError, match="neither"):
        opened(list_images(data / "train", reading=Reading("mean")), beton)
