"""``python -m bench accuracy``: both ways train, the first accurate epoch ends the clock, and what the report says."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import demo
from bench.__main__ import main
from bench.accuracy import part, run
from bench.accuracy.contestants import CONTESTANTS, OURS, PUBLISHED
from bench.accuracy.part import Reached, until


@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_both_train_the_demo(contestant: str, demo_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", "demo", "--pipeline", "torchvision", "--data", str(demo_data)]
    words += ["--set", "science.epochs=2", "--set", "science.warmup_epochs=0", "--set", "engine.threads=1"]
    assert part.main([contestant, "5", *words]) == 0
    found = Reached(**json.loads(capsys.readouterr().out))
    assert found.reached
    assert found.seconds == found.curve[-1][0] > 0
    assert found.curve[-1][1] >= 5
    assert all(accuracy < 5 for _, accuracy in found.curve[:-1])


@pytest.mark.parametrize(("target", "epochs"), [(60.0, 3), (50.0, 3), (20.0, 1), (90.0, 4)])
def test_the_first_accurate_epoch_ends_the_clock(target: float, epochs: int) -> None:
    """An epoch takes 10 s, an evaluation 1 s, and each epoch adds 20 % to the accuracy."""
    now, trained = [5.0], list[int]()

    def epoch(number: int) -> None:
        trained.append(number)
        now[0] += 10

    def accuracy() -> float:
        now[0] += 1
        return 20.0 * len(trained)

    found = until(target, 4, epoch, accuracy, lambda: now[0])
    assert trained == list(range(epochs))
    assert found == (11.0 * epochs, target <= 80, [(11.0 * number, 20.0 * number) for number in range(1, epochs + 1)])


def test_the_report_pairs_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = list[tuple[str, str]]()

    def trained(contestant: str, target: float, words: Sequence[str]) -> Reached:
        seed = int(words[-1].removeprefix("science.seed="))
        asked.append((contestant, words[words.index("--pipeline") + 1]))
        seconds = (10.0 if contestant == OURS else 40.0) + seed
        reached = contestant == OURS or seed != 2
        return Reached(seconds, reached, [(seconds / 2, target - 10), (seconds, target if reached else target - 5)])

    monkeypatch.setattr(run, "trained", trained)
    monkeypatch.setattr(demo, "make_data", lambda *_, **__: None)
    assert main(["accuracy", "--seeds", "0", "1", "2", "--out", str(tmp_path)]) == 0
    ours, published = (OURS, "ffcv"), (PUBLISHED, "torchvision")
    assert asked == [ours, published, published, ours, ours, published]
    said = " ".join(capsys.readouterr().out.split())
    assert "88 % is reached 3.86 times as fast as with the published habits (3.73–4.00 over 2 of 3 seeds)." in said
    text = next(tmp_path.glob("accuracy_*.md")).read_text()
    assert "| ours | 11.0 | 10.0, 11.0, 12.0 | 2, 2, 2 |" in text
    assert "| published habits | 40.5 | 40.0, 41.0, not in 42.0 (83.0 %) | 2, 2, 2 |" in text


def test_a_training_that_fails_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert part.main([OURS, "5", "--recipe", "demo", "--data", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["accuracy", "--target", "120"])
    assert "must be a percentage" in capsys.readouterr().err
