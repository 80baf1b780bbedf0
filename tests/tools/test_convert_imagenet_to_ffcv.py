"""The converter: FFCV's own code reads its files, JPEG bytes stay as they are, and a failure leaves nothing behind."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.beton import convert as conversion
from pipelines.beton import writer as beton_writer
from pipelines.beton.one_image import Encoding
from pipelines.errors import DataError
from pipelines.samples.listing import list_images
from tests.support.conversion import convert, names, originals, stored
from tests.support.ffcv_process import Loaded
from tests.support.images import photo


def test_jpeg_bytes_labels_and_index_are_those_of_the_listing(data: Path) -> None:
    assert convert(data) == 0
    listing = list_images(data / "train")
    metadata, images = stored(data / "ffcv" / "train.beton")
    np.testing.assert_array_equal(metadata["f1"], listing.labels)
    np.testing.assert_array_equal(metadata["f2"], listing.indices)
    np.testing.assert_array_equal(metadata["f0"]["width"], listing.widths)
    np.testing.assert_array_equal(metadata["f0"]["height"], listing.heights)
    pixels = {"bee/really_png.JPEG", "bee/cmyk.jpeg"}
    for path, image, original, mode in zip(
        listing.paths, images, originals(listing), metadata["f0"]["mode"].tolist(), strict=True
    ):
        assert (image == original) == (path not in pixels), path
        assert mode == (path in pixels)
        if path in pixels:
            assert image == Image.open(data / "train" / path).convert("RGB").tobytes()


def test_the_sidecar_says_what_the_file_was_made_of(data: Path) -> None:
    assert convert(data, "--split", "train", "--quality", "80") == 0
    listing, beton = list_images(data / "train"), data / "ffcv" / "train.beton"
    sidecar = json.loads((data / "ffcv" / "train.beton.json").read_text())
    assert sidecar["fingerprint"] == listing.fingerprint
    assert sidecar["count"] == len(listing) == 13
    assert sidecar["originals"] == 11
    assert sidecar["classes"] == ["ant", "bee"]
    assert sidecar["bytes"] == beton.stat().st_size
    parameters = {
        "mode": "jpeg",
        "raw_share": 0.5,
        "check": "header",
        "alpha": "drop",
        "exif": "ignore",
        "pixels_per_byte": 1000,
        "filter": "LANCZOS",
        "shard": None,
        "flat": False,
    }
    assert sidecar["parameters"] == {"max_resolution": None, "quality": 80, **parameters}
    assert set(sidecar["versions"]) >= {"pillow", "numpy", "debiaspl"}
    assert sidecar["date"]
    assert {words: count for words, count in sidecar["fates"].items() if count} == {
        "kept as it is": 11,
        "stored as pixels": 2,
    }
    assert names(beton.parent) == [f"train.beton{suffix}" for suffix in ("", ".files.csv", ".json", ".records.npy")]


def test_the_number_of_workers_does_not_change_a_byte(data: Path) -> None:
    contents = set()
    for workers in ("1", "2", "5"):
        assert convert(data, "--split", "train", "--max-resolution", "70", "--workers", workers) == 0
        contents.add((data / "ffcv" / "train.beton").read_bytes())
    assert len(contents) == 1


def test_max_resolution_limits_the_longer_side_and_leaves_smaller_images_alone(data: Path) -> None:
    assert convert(data, "--split", "train", "--max-resolution", "75") == 0
    listing = list_images(data / "train")
    metadata, images = stored(data / "ffcv" / "train.beton")
    sizes = dict(zip(listing.paths, metadata["f0"][["width", "height"]].tolist(), strict=True))
    assert sizes["ant/3.JPEG"] == (75, 15)  # of 200 × 40
    assert sizes["ant/1.JPEG"] == (56, 75)  # of 90 × 120: 56.25 is cut, as FFCV does
    assert sizes["ant/4.JPEG"] == (75, 75)
    assert images[listing.paths.index("ant/4.JPEG")] == (data / "train/ant/4.JPEG").read_bytes()
    assert metadata["f0"]["mode"].sum() == 2  # the PNG and the CMYK JPEG, which were small enough
    shrunk = Image.open(io.BytesIO(images[listing.paths.index("ant/3.JPEG")]))
    assert shrunk.size == (75, 15)


@pytest.mark.soak
def test_ffcvs_own_loader_reads_images_of_one_size(data: Path, loaded: Callable[..., Loaded]) -> None:
    assert convert(data, "--split", "val") == 0
    images, labels, indices = loaded(data / "ffcv" / "val.beton", "SimpleRGBImageDecoder")
    assert labels.tolist() == [0, 1]
    assert indices.tolist() == [0, 1]
    truth = np.asarray(Image.open(data / "val/ant/0.jpg"))
    assert np.abs(images[0].astype(int) - truth).max() <= 12  # FFCV decodes with the fast DCT
    assert np.abs(images[0].astype(int) - truth).mean() < 2


@pytest.mark.soak
def test_ffcvs_own_loader_reads_images_of_any_size_and_kind(data: Path, loaded: Callable[..., Loaded]) -> None:
    assert convert(data, "--split", "train") == 0
    listing, beton = list_images(data / "train"), data / "ffcv" / "train.beton"
    images, labels, indices = loaded(beton, "RandomResizedCropRGBImageDecoder", (32, 32))
    assert images.shape == (len(listing), 32, 32, 3)
    np.testing.assert_array_equal(labels, listing.labels)
    np.testing.assert_array_equal(indices, listing.indices)
    images, _, _ = loaded(beton, "CenterCropRGBImageDecoder", (40, 40), 1)
    grey = images[listing.paths.index("bee/grey.jpeg")]
    assert grey.std() > 5
    np.testing.assert_array_equal(grey[..., 0], grey[..., 1])
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


def test_many_pages(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that do not fit what is left of a page start the next one; one larger than a page makes it grow."""
    monkeypatch.setattr(beton_writer, "PAGE", 1 << 21)
    for seed in range(4):
        noise = np.random.default_rng(seed).integers(0, 256, (700, 700, 3), np.uint8)
        Image.fromarray(noise).save(data / f"train/ant/big{seed}.jpg", quality=97, subsampling="4:4:4")
    photo(1100, 1000, 5).save(data / "train/bee/large.jpg", "PNG")  # 3.3 MB of pixels
    assert convert(data, "--split", "train") == 0
    listing, beton = list_images(data / "train"), data / "ffcv" / "train.beton"
    metadata, images = stored(beton)
    from ffcv.reader import Reader  # installed, or ``stored`` has skipped the test

    assert Reader(str(beton)).page_size == 1 << 22
    starts = metadata["f0"]["data_ptr"]
    ends = starts + np.array([len(image) for image in images], np.uint64) - 1
    np.testing.assert_array_equal(starts >> 22, ends >> 22)  # none crosses a border
    assert len(set((metadata["f0"]["data_ptr"] // (1 << 21)).tolist())) > 2
    for path, image, original in zip(listing.paths, images, originals(listing), strict=True):
        assert image == original or path in ("bee/really_png.JPEG", "bee/cmyk.jpeg", "bee/large.jpg")


@pytest.mark.parametrize("before", [False, True])
def test_strict_fails_and_leaves_what_was_there(data: Path, before: bool, capsys: pytest.CaptureFixture[str]) -> None:
    beton = data / "ffcv" / "train.beton"
    if before:
        assert convert(data, "--split", "train") == 0
    there = {path.name: path.read_bytes() for path in beton.parent.glob("*")}
    damaged = data / "train/bee/2.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    capsys.readouterr()
    assert convert(data, "--split", "train", "--strict") == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"error: Cannot store {damaged}: truncated: ")
    assert "Replace the file or take it out of the data" in message
    assert {path.name: path.read_bytes() for path in beton.parent.glob("*")} == there


def test_an_interruption_before_the_first_commit_leaves_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "stored_image", interrupted)
    assert convert(data) == 130
    assert list((data / "ffcv").iterdir()) == []


def test_a_full_disk_is_an_error_of_one_line(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(beton_writer.os, "pwritev", full)
    with pytest.raises(DataError, match=r"Cannot write .*train\.beton: No space left on device"):
        conversion.convert(list_images(data / "train"), data / "ffcv" / "train.beton", Encoding(), 1)
    assert list((data / "ffcv").iterdir()) == []


def test_a_missing_folder_is_reported_before_any_work(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(data, "--split", "train", "test") == 2
    assert f"There is no data folder {data / 'test'}" in capsys.readouterr().err
    assert not (data / "ffcv").exists()
