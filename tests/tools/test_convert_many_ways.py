"""The converter's other ways: odd files, raw pixels, subsets, shards, verification, a warm cache."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipelines.beton import source_file
from pipelines.beton.convert import scan
from tests.support.conversion import convert, names, originals, stored
from tests.support.ffcv_process import Loaded
from tests.support.images import photo
from tests.support.odd_files import ODD, listed

ROOT = Path(__file__).parents[2]


ORDINARY = ("zwei Wörter é.jpg", "plain.JPEG", "plain.png")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "odd data"
    (root / "train" / "züge").mkdir(parents=True)
    for name, (make, _, _) in ODD.items():
        make(root / "train" / "züge" / name)
    for name in ORDINARY:
        photo(60, 50, 11).save(root / "train" / "züge" / name)
    really = os.open

    def open_(path: str, *rest: int, **more: int) -> int:
        if str(path).endswith("forbidden.jpg"):  # the tests may run as root, whom nothing is forbidden
            raise PermissionError(13, "Permission denied", path)
        return really(path, *rest, **more)

    monkeypatch.setattr(source_file.os, "open", open_)
    return root


@pytest.mark.parametrize("check", ["header", "decode"])
def test_every_odd_file_has_its_status(odd: Path, check: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(odd, "--split", "train", "--check", check) == 0
    beton, listing = odd / "ffcv" / "train.beton", scan(odd / "train")
    found = listed(beton)
    assert found.keys() == {f"züge/{name}" for name in ODD}
    for name, (_, status, reason) in ODD.items():
        assert found[f"züge/{name}"][0] == status, name
        assert found[f"züge/{name}"][1].startswith(reason), (name, found[f"züge/{name}"])
    metadata, images = stored(beton)
    wanted = [at for at, path in enumerate(listing.paths) if found.get(path, ("",))[0] != "left out"]
    assert metadata["f2"].tolist() == wanted
    for row, at in enumerate(wanted):
        if metadata["f0"]["mode"][row]:
            assert images[row] == Image.open(listing.path(at)).convert("RGB").tobytes()
        else:
            assert images[row] == listing.path(at).read_bytes()
    out = capsys.readouterr().out
    for line in ("left out: truncated", "stored as pixels: CMYK", "kept as it is: grey JPEG", "left out: not an image"):
        assert line in out
    sidecar = json.loads(Path(f"{beton}.json").read_text())
    assert [path for _, path, _ in sidecar["left_out"]] == [
        path for path, (status, _) in found.items() if status == "left out"
    ]
    assert convert(odd, "--split", "train", "--verify") == 0


@pytest.mark.soak
@pytest.mark.parametrize(
    "words", [(), ("--mode", "raw"), ("--mode", "proportion", "--raw-share", "0.4"), ("--subset", "some.csv")], ids=str
)
def test_ffcvs_own_loader_reads_every_way_of_converting(
    odd: Path, loaded: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(odd)
    Path("some.csv").write_text("\n".join(["Index", *map(str, range(12, 3, -1))]) + "\n")
    assert convert(odd, "--split", "train", *words) == 0
    wanted = stored(odd / "ffcv/train.beton")[0]["f2"].tolist()
    pixels, _, indices = loaded(odd / "ffcv/train.beton", "CenterCropRGBImageDecoder", (32, 32), 1)
    assert len(pixels) >= 3
    assert indices.tolist() == wanted


def test_only_decoding_finds_damage_within(data: Path) -> None:
    path = data / "train/ant/3.JPEG"
    content = bytearray(path.read_bytes())
    begin = len(content) // 2
    content[begin : begin + 60] = b"\xff\xd0" * 30
    path.write_bytes(content)
    beton = data / "ffcv" / "train.beton"
    assert convert(data, "--split", "train") == 0
    assert "ant/3.JPEG" not in listed(beton)
    assert convert(data, "--split", "train", "--check", "decode") == 0
    assert "libjpeg warns: " in listed(beton)["ant/3.JPEG"][1]


def test_text_bombs_are_left_out(data: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("x", "y" * (1 << 27), zip=True)
    photo(30, 30, 1).save(data / "train/ant/9.png", pnginfo=notes)
    assert convert(data, "--split", "train") == 0
    assert listed(data / "ffcv" / "train.beton")["ant/9.png"][0] == "left out"


def test_raw_pixels_and_a_share_of_them(data: Path) -> None:
    listing, beton = scan(data / "train"), data / "ffcv" / "train.beton"
    assert convert(data, "--split", "train", "--mode", "raw") == 0
    metadata, images = stored(beton)
    assert metadata["f0"]["mode"].all()
    for path, image in zip(listing.paths, images, strict=True):
        assert image == Image.open(data / "train" / path).convert("RGB").tobytes(), path
    assert convert(data, "--split", "train", "--mode", "proportion", "--raw-share", "0.4") == 0
    modes = stored(beton)[0]["f0"]["mode"]
    assert 2 < modes.sum() < len(modes)
    assert convert(data, "--split", "train", "--mode", "proportion", "--raw-share", "0.4", "--shard", "2/2") == 0
    part = stored(beton.with_name("train.beton.part-2-of-2"))[0]
    np.testing.assert_array_equal(part["f0"]["mode"], modes[-len(part) :])  # the choice is the sample's own


def test_a_subset_keeps_the_listings_positions(data: Path) -> None:
    (data / "some.csv").write_text("Index\n7\n2\n5\n")
    assert convert(data, "--split", "train", "--subset", str(data / "some.csv")) == 0
    metadata, images = stored(data / "ffcv" / "train.beton")
    assert metadata["f2"].tolist() == [2, 5, 7]
    assert images == [originals(scan(data / "train"))[index] for index in (2, 5, 7)]
    with pytest.raises(SystemExit):
        convert(data, "--subset", str(data / "some.csv"))


@pytest.mark.parametrize("shards", [1, 3])
def test_merged_shards_are_the_bytes_of_one_conversion(odd: Path, shards: int) -> None:
    folder = odd / "ffcv"
    assert convert(odd, "--split", "train") == 0
    whole = {name: (folder / name).read_bytes() for name in names(folder) if not name.endswith(".json")}
    for path in folder.iterdir():
        path.unlink()
    for shard in range(1, shards + 1):
        assert convert(odd, "--split", "train", "--shard", f"{shard}/{shards}") == 0
        assert convert(odd, "--split", "train", "--shard", f"{shard}/{shards}", "--verify") == 0
    assert convert(odd, "--split", "train", "--merge") == 0
    for name, content in whole.items():
        assert (folder / name).read_bytes() == content, name
    assert convert(odd, "--split", "train", "--verify") == 0


def test_parts_that_do_not_fit_are_not_merged(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(message: str) -> None:
        assert convert(data, "--split", "train", "--merge") == 2
        assert message in capsys.readouterr().err

    refused("no parts")
    assert convert(data, "--split", "train", "--shard", "1/2") == 0
    refused("there are no [2]")
    assert convert(data, "--split", "train", "--shard", "2/2", "--quality", "50") == 0
    refused("quality 90 (now 50)")
    assert convert(data, "--split", "train", "--shard", "2/2") == 0
    part = data / "ffcv" / "train.beton.part-2-of-2"
    start = int(stored(part)[0]["f0"]["data_ptr"][1])
    flip(part, start + 5)
    refused("is damaged at sample")
    assert not (data / "ffcv" / "train.beton").exists()
    assert convert(data, "--split", "train", "--shard", "1/30") == 2


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def test_verify_finds_any_flipped_byte(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(data, "--split", "train") == 0
    beton = data / "ffcv" / "train.beton"
    metadata, _ = stored(beton)
    assert convert(data, "--split", "train", "--verify") == 0
    sample, size = int(metadata["f0"]["data_ptr"][4]), beton.stat().st_size
    places = {sample + 9: "sample 4", 3300: "tables", sample - sample % (1 << 21) - 1: "padding", size - 3: "tables"}
    places |= {3100: "tables", 9: "tables", 20: "tables", size - 24 * 13 - 1: "padding"}
    for place, problem in places.items():
        flip(beton, place)
        capsys.readouterr()
        assert convert(data, "--split", "train", "--verify") == 2, place
        assert problem in capsys.readouterr().err, place
        flip(beton, place)
    assert convert(data, "--split", "train", "--verify") == 0
    source = data / "train/bee/really_png.JPEG"
    flip(source, 200)
    assert convert(data, "--split", "train", "--verify") == 2
    assert f"{source} is not the file that was converted" in capsys.readouterr().err


def test_warming_reads_the_file(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(data, "--split", "val") == 0
    capsys.readouterr()
    from tools import convert_imagenet_to_ffcv as converter

    assert converter.main(["--warm", str(data / "ffcv/val.beton")]) == 0
    assert "GiB/s" in capsys.readouterr().out
    assert converter.main(["--warm", str(data / "nothing")]) == 2
    assert "Cannot read" in capsys.readouterr().err
