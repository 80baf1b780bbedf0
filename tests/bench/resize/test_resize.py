"""``python -m bench resize`` from end to end on a tiny corpus, and that its differences are seen."""

import json
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from bench.__main__ import main
from bench.resize import kernels as resize_kernels
from bench.resize import run as resize
from bench.resize.kernels import OURS, PILLOW, SIMD, Crop, pixels, ways
from pipelines.augment.ops import Op


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


def bench(folder: Path, out: Path, *more: str) -> int:
    options = ["--images", "3", "--crops", "1", "--rounds", "1", "--corpus", str(folder), "--out", str(out)]
    return main(["resize", *options, *more])


def test_end_to_end(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert bench(folder, tmp_path) == 0
    assert torch.get_num_threads() == threads
    found = json.loads(next(tmp_path.glob("resize_*.json")).read_text())
    series = {each["name"]: each["samples"] for each in found["measurement"]["series"]}
    assert list(series)[:2] == [PILLOW, OURS]
    assert all([sample["units"] for sample in samples] == [3] for samples in series.values())
    exact = found["facts"]["Pillow's bytes"]
    assert exact[PILLOW] == exact[OURS] == "yes"
    assert exact["Pillow, resize(box=…)"] == exact["torch, interpolate(antialias=True) on uint8"] == "no"
    assert "pip install" in found["not_measured"][SIMD]
    tables = {section["title"]: section["rows"] for section in found["sections"]}
    assert list(tables) == ["Bars", "Crops of 96 × 96", "Crops of 32 × 32", "RandAugment, operation by operation"]
    assert [row[0] for row in tables["RandAugment, operation by operation"]][1:] == [op.name for op in Op]
    assert [row[:2] for row in tables["Bars"]][1:] == [[f"{size} × {size}", "met"] for size in resize.CROP_SIZES]
    assert "Pillow's bytes" in next(tmp_path.glob("resize_*.md")).read_text()
    assert "RandAugment" in capsys.readouterr().out


def test_a_byte_that_is_not_pillows_breaks_the_bar(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    really = resize_kernels.resize_into

    def off_by_one(*given: np.ndarray) -> None:
        really(*given)
        given[-1][-1, -1, 2] ^= 1

    monkeypatch.setattr(resize_kernels, "resize_into", off_by_one)
    monkeypatch.setattr(resize, "CROP_SIZES", (32,))
    assert bench(folder, tmp_path) == 1
    assert "our crops of 32 pixels are not Pillow's" in capsys.readouterr().err
    (section, _) = json.loads(next(tmp_path.glob("resize_*.json")).read_text())["sections"]
    assert section["rows"][1] == ["32 × 32", "missed", section["rows"][1][2], "missed"]
    assert section["rows"][1][2] != OURS


def test_every_way_cuts_the_same_crop() -> None:
    """Another crop, or channels in another order, would differ by far more than another filter."""
    x, y = np.meshgrid(np.arange(90), np.arange(70))
    image = np.ascontiguousarray(np.stack([2 * x, 3 * y, 255 - x - y], -1).astype(np.uint8))  # slopes: any filter's
    crop = Crop(image, Image.fromarray(image), top=11, left=20, height=40, width=60)
    for size in (16, 50):
        found = ways([crop], size)
        wanted = pixels(found[PILLOW](0)).astype(int)
        for name, way in found.items():
            difference = np.abs(pixels(way(0)).astype(int) - wanted)
            assert difference[2:-2, 2:-2].max() <= 2, name


@pytest.mark.soak
def test_pillow_simd_runs_in_a_process_of_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here a copy of Pillow plays its part."""
    place = tmp_path / "simd"
    monkeypatch.setattr(resize, "CROP_SIZES", (32,))
    assert bench(folder, tmp_path, "--pillow-simd", str(place)) == 2
    assert f"There is no Pillow-SIMD in {place}. Run: pip install" in capsys.readouterr().err
    (place / "pillow_simd-0.dist-info").mkdir(parents=True)
    for installed in Path(PIL.__file__).parent, *Path(PIL.__file__).parents[1].glob("pillow.libs"):
        (place / installed.name).symlink_to(installed)
    assert bench(folder, tmp_path, "--pillow-simd", str(place)) == 0
    found = json.loads(next(tmp_path.glob("resize_*.json")).read_text())
    assert found["facts"]["Pillow's bytes"][SIMD] == "yes"
    assert found["measurement"]["series"][-1]["samples"][0]["units"] == 3
    assert found["settings"]["Pillow-SIMD"] == "0"
    assert SIMD not in found["not_measured"]


@pytest.mark.parametrize("option", ["--images", "--crops", "--rounds"])
def test_counts_must_be_positive(folder: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench(folder, tmp_path, option, "0")
    assert f"{option}: must be a whole number from 1 on (got 0)" in capsys.readouterr().err
