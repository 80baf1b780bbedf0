"""A checkpoint that version 0.1 wrote in the middle of an epoch: it resumes, goes on as it did then, and evaluates."""

import json
import re
import shutil
from pathlib import Path

import pytest

from debiaspl.checkpoint_file import read
from debiaspl.evaluate import main as evaluate
from debiaspl.models.resnet import BasicBlock, ResNet
from debiaspl.models.trunks import TRUNKS
from debiaspl.train import main as train

CHECKPOINT = Path(__file__).with_name("checkpoint_0.1.pt")
STEP = 110
"""Where it stands: two steps into the thirteenth epoch of nine steps."""
SCIENCE = ("arch=narrow", "epochs=14", "warmup_epochs=1", "threshold=0.5", "ema=0.9", "dropout=0.3")
LAST_COMPARED = 116
"""A few steps on: later, the order of float32 sums on another CPU may show in the third digit."""


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trunk, narrow for the sake of the file's size."""
    monkeypatch.setitem(TRUNKS, "narrow", lambda: ResNet(BasicBlock, (1, 1), width=8, small=True))


def arguments(data: Path, out: Path, *science: str) -> list[str]:
    sets = [word for field in science for word in ("--set", f"science.{field}")]
    where = ["--recipe", "demo", "--pipeline", "torchvision", "--data", str(data), "--out", str(out)]
    return [*where, "--set", "engine.threads=1", "--resume", "auto", *sets]


def test_it_resumes_and_goes_on_as_it_did_then(demo_data, tmp_path):
    shutil.copy(CHECKPOINT, tmp_path / "last.pt")
    assert read(CHECKPOINT)["progress"]["step"] == STEP
    assert train(arguments(demo_data, tmp_path, *SCIENCE)) == 0
    then = [json.loads(line) for line in CHECKPOINT.with_suffix(".jsonl").read_text().splitlines()]
    now = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in now] == [row["step"] for row in then]
    assert then[0]["step"] == STEP + 1
    for before, after in zip(then, now, strict=True):
        if before["step"] <= LAST_COMPARED:
            assert {key: after[key] for key in before} == pytest.approx(before, rel=1e-3), before["step"]
    assert read(tmp_path / "last.pt")["progress"]["step"] == then[-1]["step"]


def test_it_is_refused_where_the_science_differs(demo_data, tmp_path, capsys):
    shutil.copy(CHECKPOINT, tmp_path / "last.pt")
    assert train(arguments(demo_data, tmp_path, *SCIENCE, "tau=0")) == 2
    assert "tau: 0.4 there, 0.0 here" in capsys.readouterr().err


def test_it_evaluates_as_it_did_then(demo_data, capsys):
    assert evaluate([str(CHECKPOINT), "--data", str(demo_data), "--pipeline", "torchvision"]) == 0
    said = capsys.readouterr()
    found = {name: float(top1) for name, top1 in re.findall(r"(student|teacher)\W+(\d+\.\d+)", said.out)}
    assert found == pytest.approx({"student": 42.0, "teacher": 44.0}, abs=1.0)  # of 100 images
    assert "another listing" not in said.err
