"""``python -m bench demo`` without its trainings: which runs it makes, and the report of their results."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import demo
from bench.__main__ import main
from debiaspl import compare
from debiaspl.comparison.results import Result
from debiaspl.comparison.trainings import Training


def test_report_of_three_methods_and_another_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, trained = list[tuple[str, int, bool]](), set[Training]()

    def finish(wanted: Sequence[Training], metric: str, jobs: int) -> dict[Training, Result]:
        assert metric == "student_balanced"
        trained.update(wanted)
        for each in wanted:
            recipe = each.recipe
            assert recipe.science.epochs == 1 + recipe.science.warmup_epochs == 1
            assert recipe.science.seed == each.seed
            assert recipe.engine.data.endswith(f"data-{each.seed}")
        return {each: Result(80.0 + each.seed + (5 if each.method == "debiaspl" else 0), (), None) for each in wanted}

    def make_data(folder: Path, seed: int, *, convert: bool) -> None:
        made.append((folder.name, seed, convert))

    monkeypatch.setattr(compare, "finish", finish)
    monkeypatch.setattr(demo, "make_data", make_data)
    words = ["--seeds", "1", "3", "--pipelines", "torchvision", "ffcv"]
    words += ["--set", "science.epochs=1", "--set", "science.warmup_epochs=0"]
    assert main(["demo", *words, "--out", str(tmp_path)]) == 0
    assert [(seed, convert) for _, seed, convert in made] == [(1, True), (3, True)]
    assert len(trained) == 2 * 4
    found = json.loads(next(tmp_path.glob("demo_*.json")).read_text())
    assert found["command"] == f"python -m bench demo {' '.join(words)}"
    assert found["balanced_accuracy_percent"] == {
        "supervised only, torchvision": [81.0, 83.0],
        "FixMatch, torchvision": [81.0, 83.0],
        "DebiasPL, torchvision": [86.0, 88.0],
        "DebiasPL, ffcv": [86.0, 88.0],
    }
    text = next(tmp_path.glob("demo_*.md")).read_text()
    assert "| DebiasPL, ffcv | 87.0 | 86.0–88.0 | 86.0, 88.0 |" in text
    assert next(tmp_path.glob("demo_*.png")).read_bytes().startswith(b"\x89PNG")
    assert "FixMatch, torchvision" in capsys.readouterr().out
