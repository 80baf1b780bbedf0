"""The converter's files of planes: legal to FFCV's own code, exact, and as safe from kills and damage as the others."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.beton.format import FULL, GREY, JPEG, QUARTER, RAW
from pipelines.beton.planes import rgb_of
from pipelines.beton.reader import open_beton
from pipelines.samples.listing import list_images
from tests.support.conversion import convert, convert_interrupted, names
from tests.support.image_kinds import image_kinds
from tests.support.odd_files import listed

PLANES = ("--split", "train", "--mode", "planes")


def shown(beton: Path) -> list[np.ndarray | None]:
    """Each stored picture, [height, width, 3], as the pipeline shows it; None for JPEGs."""
    found, stored = open_beton(beton), open_beton(beton).stored
    pictures: list[np.ndarray | None] = []
    for row, kind in enumerate(stored.kind.tolist()):
        content = found.content[stored.offset[row] : stored.offset[row] + stored.length[row]]
        size = int(stored.height[row]), int(stored.width[row])
        if kind == JPEG:
            pictures.append(None)
        else:
            pictures.append(content.reshape(*size, 3) if kind == RAW else rgb_of(kind, content, *size))
    return pictures


def test_each_sample_is_what_its_row_says_and_shows_pillows_pixels(data: Path, capsys: pytest.CaptureFixture) -> None:
    (data / "train/bee/rgb.jpg").write_bytes(image_kinds()["JPEG RGB"])
    assert convert(data, *PLANES) == 0
    listing, beton = list_images(data / "train"), data / "ffcv/train.beton"
    kinds = dict(zip(listing.paths, open_beton(beton).stored.kind.tolist(), strict=True))
    assert kinds["ant/0.JPEG"] == QUARTER
    assert kinds["bee/1.jpg"] == FULL
    assert kinds["bee/grey.jpeg"] == GREY
    assert kinds["bee/rgb.jpg"] == JPEG  # its planes are not of luma and chroma
    assert kinds["bee/cmyk.jpeg"] == kinds["bee/really_png.JPEG"] == RAW
    for path, picture in zip(listing.paths, shown(beton), strict=True):
        if path != "bee/rgb.jpg":
            np.testing.assert_array_equal(picture, np.asarray(Image.open(data / "train" / path).convert("RGB")), path)
    statuses = json.loads((data / "ffcv/train.beton.json").read_text())["fates"]
    assert {words: count for words, count in statuses.items() if count} == {
        "kept as it is": 1,
        "stored as pixels": 2,
        "stored as planes, grey": 1,
        "stored as planes, 4:4:4": 5,
        "stored as planes, 4:2:0": 5,
    }
    assert listed(beton)["bee/rgb.jpg"][1].startswith("its planes do not give the same pixels")
    assert "5  stored as planes, 4:2:0" in capsys.readouterr().out
    assert convert(data, *PLANES, "--verify") == 0


@pytest.mark.soak
def test_ffcvs_reader_and_loader_find_bytes_and_numbers(data: Path, loaded) -> None:
    assert convert(data, *PLANES) == 0
    beton, listing = data / "ffcv/train.beton", list_images(data / "train")
    content, stored = open_beton(beton).content, open_beton(beton).stored
    images, labels, indices = loaded(beton, "BytesDecoder")
    np.testing.assert_array_equal(labels, listing.labels)
    np.testing.assert_array_equal(indices, listing.indices)
    for row, image in enumerate(images):
        length, start = stored.length[row], stored.offset[row]
        np.testing.assert_array_equal(image[:length], content[start : start + length])


def test_shrunk_images_are_the_planes_of_their_jpeg(data: Path) -> None:
    assert convert(data, *PLANES, "--max-resolution", "60") == 0
    in_planes, beton = shown(data / "ffcv/train.beton"), data / "ffcv/train.beton"
    widest = max(picture.shape[1] for picture in in_planes if picture is not None)
    assert widest == 60
    assert convert(data, "--split", "train", "--max-resolution", "60") == 0
    found, stored = open_beton(beton), open_beton(beton).stored
    compared = 0
    for row, picture in enumerate(in_planes):
        if stored.kind[row] == JPEG:
            jpeg = found.content[stored.offset[row] : stored.offset[row] + stored.length[row]].tobytes()
            (data / "one.jpg").write_bytes(jpeg)
            np.testing.assert_array_equal(picture, np.asarray(Image.open(data / "one.jpg").convert("RGB")))
            compared += 1
    assert compared == 12


def test_workers_shards_and_an_interruption_change_no_byte(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data / "ffcv"
    assert convert(data, *PLANES, "--workers", "1") == 0
    whole = {name: (folder / name).read_bytes() for name in names(folder) if not name.endswith(".json")}

    def assert_whole() -> None:
        for name, content in whole.items():
            assert (folder / name).read_bytes() == content, name

    assert convert(data, *PLANES, "--workers", "3", "--check", "header") == 0
    assert_whole()
    assert convert_interrupted(monkeypatch, data, *PLANES) == 130
    assert convert(data, "--split", "train", "--resume") == 2  # of another mode
    assert convert(data, *PLANES, "--resume") == 0
    assert_whole()
    for path in folder.iterdir():
        path.unlink()
    for shard in ("1/2", "2/2"):
        assert convert(data, *PLANES, "--shard", shard) == 0
    assert convert(data, "--split", "train", "--merge") == 0
    assert_whole()
    assert convert(data, *PLANES, "--verify") == 0


def test_damage_within_is_pillows_to_judge(data: Path) -> None:
    path = data / "train/ant/3.JPEG"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff\xd0" * 30 + content[len(content) // 2 :])
    cut = data / "train/ant/4.JPEG"
    cut.write_bytes(cut.read_bytes()[:-100])
    assert convert(data, *PLANES) == 0
    found = listed(data / "ffcv/train.beton")
    assert found["ant/3.JPEG"][0] == "kept as it is"
    assert "libjpeg warns: " in found["ant/3.JPEG"][1]
    assert found["ant/4.JPEG"][0] == "left out"


@pytest.mark.parametrize("place", ["sample", "tables", "padding"])
def test_verify_finds_a_flipped_byte(data: Path, place: str, capsys: pytest.CaptureFixture) -> None:
    assert convert(data, *PLANES) == 0
    beton = data / "ffcv/train.beton"
    stored, content = open_beton(beton).stored, bytearray(beton.read_bytes())
    at = {"sample": int(stored.offset[4]) + 9, "tables": 6400, "padding": int(stored.offset[0]) - 1}[place]
    content[at] ^= 4
    beton.write_bytes(content)
    capsys.readouterr()
    assert convert(data, *PLANES, "--verify") == 2
    assert place in capsys.readouterr().err
