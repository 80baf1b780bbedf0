"""``python -m bench parity`` from end to end on a tiny corpus, and that it sees a pixel that is off by one."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.__main__ import main
from bench.parity import compare as parity_compare
from bench.parity.compare import compare_executors
from pipelines.augment.ops import Op


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


def bench(folder: Path, out: Path, *more: str) -> int:
    return main(["parity", "--images", "5", "--crops", "1", "--corpus", str(folder), "--out", str(out), *more])


@pytest.mark.soak
def test_end_to_end(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(folder, tmp_path) == 0
    found = json.loads(next(tmp_path.glob("parity_*.json")).read_text())
    compared = {row["what"]: row for row in found["pipelines"]}
    assert compared["torchvision: crops and flips"]["views"] == 20
    assert compared["torchvision: strong views"]["largest"] == 0
    for name in ("dali", "ffcv"):
        assert name in found["not_measured"] or f"{name}: crops and flips" in compared
    assert len(found["operations"]) % len(Op) == 0
    assert all(row["views"] == 18 and row["largest"] == 0 for row in found["operations"])
    assert found["broken"] == []
    text = next(tmp_path.glob("parity_*.md")).read_text()
    assert "All bars are met" in text
    assert "| TranslateY | 0 |" in text
    with Image.open(next(tmp_path.glob("parity_*.png"))) as picture:
        assert min(picture.size) > 300
    assert "Pipelines against Pillow" in capsys.readouterr().out


@pytest.mark.soak
def test_a_pixel_off_by_one_is_a_broken_bar(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    really = parity_compare._loaded

    def loaded(*given: object) -> np.ndarray:
        views = really(*given)
        views[3, 1, 100, 50, 2] ^= 1
        return views

    monkeypatch.setattr(parity_compare, "_loaded", loaded)
    assert bench(folder, tmp_path, "--pipelines", "torchvision") == 1
    assert "BROKEN: torchvision: crops and flips: equal bytes" in capsys.readouterr().err
    assert "BROKEN" in next(tmp_path.glob("parity_*.md")).read_text()


def test_an_operation_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_compare, "_by_cpu", lambda views, op, level: views)
    crop = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    broken = {row.what for row in compare_executors(crop) if not row.met}
    assert "cpu: Invert" in broken
    assert "cpu: Identity" not in broken
    assert not any(what.startswith("gpu") for what in broken)


def test_nonsense_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench(folder, tmp_path, "--images", "0")
    assert "whole number from 1" in capsys.readouterr().err
