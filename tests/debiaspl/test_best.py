"""best.pt holds what last.pt announces, whatever befell the run between the two; a finished run goes on."""

import json
import os
import shutil
from pathlib import Path

import pytest

from debiaspl import best, best_checkpoint
from debiaspl.checkpoint import Progress
from debiaspl.checkpoint_file import BEST, LAST, packed, read
from debiaspl.evaluate import main as evaluate
from debiaspl.overrides import restored
from debiaspl.train import main as train
from pipelines.samples.listing import list_images
from tests.support.runs import STEPS, assert_same_bits, quick, without_speed

EPOCHS = 3


@pytest.fixture
def finished(trained_run: Path) -> Path:
    """The folder of a run of three epochs."""
    return trained_run


def accuracies(student: float, teacher: float) -> dict[str, dict[str, float]]:
    """Balanced accuracies as given, and top-1 ones in the opposite order."""
    return {
        "student": {"top1": 100 - student, "balanced": student},
        "teacher": {"top1": 100 - teacher, "balanced": teacher},
    }


def test_the_metric_chooses_the_network_and_the_epoch():
    before, after = accuracies(40.0, 30.0), accuracies(35.0, 45.0)
    assert (best.better_model("auto", before), best.better_model("auto", after)) == ("student", "teacher")
    assert best.better_model("val/student_top1", after) == "student"
    assert best.better_model("auto", accuracies(5.0, 5.0)) == best.better_model("auto", {}) == "teacher"
    assert best.is_better("auto", after, before)
    assert not best.is_better("auto", before, before)
    assert not best.is_better("val/student_balanced", after, before)
    assert best.is_better("val/student_top1", after, before)
    assert best.is_better("val/teacher_top1", before, after)
    assert best.is_better("auto", before, {})


def test_the_best_is_what_the_records_say(finished):
    rows = [row for row in without_speed(finished / "metrics.jsonl") if "val/student_top1" in row]
    values = [max(row["val/student_balanced"], row["val/teacher_balanced"]) for row in rows]
    first = values.index(max(values))
    last, found = read(finished / LAST)["progress"], read(finished / BEST)["progress"]
    assert found["step"] == found["evaluated"] == rows[first]["step"]
    assert found["last"] == found["best"] == last["best"]
    assert last["best"]["teacher"]["balanced"] == rows[first]["val/teacher_balanced"]
    assert last["best"]["student"]["epoch"] == first + 1


def test_a_checkpoint_says_what_its_outputs_and_inputs_are(finished, few_data):
    about = read(finished / BEST)["about"]
    assert about["classes"] == [*list_images(few_data / "train").classes]
    assert (about["size"], about["resize"], about["labeled"]) == (16, 16, [2] * 10)
    assert about["mean"] == [0.485, 0.456, 0.406]
    assert about["std"] == [0.229, 0.224, 0.225]


def spoil(out: Path, how: str) -> None:
    """Leaves the run's folder as an accident would."""
    path = out / BEST
    content = read(path)
    if how == "missing":
        path.unlink()
    elif how == "damaged":
        path.write_bytes(path.read_bytes()[:-5])
    elif how == "foreign":
        path.write_bytes(packed({**content, "split": "another"}))
    elif how == "worse":
        low = {model: {**row, "balanced": 0.5, "top1": 0.5} for model, row in content["progress"]["best"].items()}
        path.write_bytes(packed({**content, "progress": {**content["progress"], "best": low, "last": low}}))


@pytest.mark.parametrize("how", ["missing", "damaged", "foreign", "worse", "whole"])
def test_networks_that_are_the_best_are_written_where_best_pt_holds_others(finished, tmp_path, capsys, how):
    """As after a kill between the evaluation that made them best and the write of best.pt, or a disk that refused."""
    shutil.copy(finished / BEST, tmp_path)
    content = read(finished / BEST)
    progress, recipe = Progress(**content["progress"]), restored(content["recipe"])
    spoil(tmp_path, how)
    assert best_checkpoint.agree(tmp_path / BEST, progress, recipe, content["split"]) == (how != "whole")
    assert progress == Progress(**content["progress"])
    assert ("The next best networks take its place" in capsys.readouterr().err) == (how in ("damaged", "foreign"))


def test_a_run_that_was_killed_before_its_best_networks_were_written_writes_them(finished, few_data, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / BEST).replace(out / LAST)
    for older in out.glob("step-*.pt"):
        older.unlink()
    assert train(quick(few_data, out, "--resume", "auto", epochs=EPOCHS)) == 0
    assert_same_bits(out / BEST, finished / BEST)
    assert_same_bits(out / LAST, finished / LAST)


def test_a_best_that_is_lost_is_looked_for_anew(finished, few_data, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / BEST).unlink()
    content = read(out / LAST)
    content["progress"]["best"]["teacher"]["epoch"] = 0.5  # of an epoch whose networks are gone
    (out / LAST).write_bytes(packed(content))
    assert train(quick(few_data, out, "--resume", "auto", epochs=EPOCHS)) == 0
    assert "best networks are looked for anew" in capsys.readouterr().out
    assert read(out / LAST)["progress"]["best"] == {}
    assert not (out / BEST).exists()


def test_a_best_of_later_epochs_than_the_last_is_what_the_run_calls_its_best(finished, few_data, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    content = read(out / BEST)
    high = {model: {**row, "balanced": 99.5} for model, row in content["progress"]["best"].items()}
    (out / BEST).write_bytes(packed({**content, "progress": {**content["progress"], "best": high, "last": high}}))
    before = (out / BEST).read_bytes()
    assert train(quick(few_data, out, "--resume", "auto", epochs=EPOCHS)) == 0
    assert (out / BEST).read_bytes() == before
    assert read(out / LAST)["progress"]["best"] == high


def test_a_refused_best_is_written_later_although_newer_ones_are_not_the_best(
    few_data, finished, tmp_path, monkeypatch
):
    out, refused = tmp_path / "run", []
    really = Path.write_bytes

    def refusing(path: Path, data: bytes) -> int:
        if BEST in path.name and len(refused) < EPOCHS:
            refused.append(path)
            raise OSError(28, os.strerror(28))
        return really(path, data)

    monkeypatch.setattr(Path, "write_bytes", refusing)
    monkeypatch.setattr("debiaspl.saving._LAST_TRIES", (0.0,) * EPOCHS)
    assert train(quick(few_data, out, epochs=EPOCHS)) == 0
    assert refused
    assert_same_bits(out / BEST, finished / BEST)


def test_a_finished_run_goes_on_with_more_epochs(finished, few_data, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    assert train(["--resume", str(out), "--set", f"science.epochs={EPOCHS + 1}"]) == 0
    said = capsys.readouterr().out
    assert f"has done its {EPOCHS} epochs and goes on to {EPOCHS + 1}: the learning rate, 0.0125 at its end" in said
    assert "goes on at 0.00732 on the cosine of 4 epochs" in said  # 0.05 / 2 · (1 + cos(3/4 π))
    content = read(out / LAST)
    assert content["progress"]["step"] == (EPOCHS + 1) * STEPS
    assert content["progress"]["continued"] == [[EPOCHS * STEPS, EPOCHS]]
    assert content["recipe"]["science"]["epochs"] == EPOCHS + 1
    assert json.loads((out / "config.json").read_text())["science"]["epochs"] == EPOCHS + 1
    rates = {row["step"]: row["train/lr"] for row in without_speed(out / "metrics.jsonl") if "train/lr" in row}
    assert rates[EPOCHS * STEPS] == pytest.approx(0.0125)
    assert rates[EPOCHS * STEPS + 1] == pytest.approx(0.0073223, rel=1e-5)
    capsys.readouterr()
    assert evaluate([str(out / LAST)]) == 0
    assert f"continued after {EPOCHS} epochs" in capsys.readouterr().out
    assert train(["--resume", "--out", str(out)]) == 0  # its config.json has the new number


@pytest.mark.parametrize("field", ["epochs=2", "epochs=4 tau=0.1", "warmup_epochs=1"])
def test_any_other_science_is_refused_as_before(finished, capsys, field):
    sets = [word for each in field.split() for word in ("--set", f"science.{each}")]
    before = (finished / LAST).read_bytes()
    assert train(["--resume", str(finished), *sets]) == 2
    assert "belongs to another experiment" in capsys.readouterr().err
    assert (finished / LAST).read_bytes() == before


def test_an_unfinished_run_keeps_its_number_of_epochs(finished, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / LAST).unlink()  # the one before it stands in the middle of the run
    assert train(["--resume", str(out), "--set", f"science.epochs={EPOCHS + 1}"]) == 2
    assert f"epochs: {EPOCHS} there, {EPOCHS + 1} here" in capsys.readouterr().err


def test_resume_alone_finds_the_settings_of_the_run(finished, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / LAST).unlink()  # the one before it stands in the middle of the run
    assert train(["--resume", "--out", str(out)]) == 0
    assert_same_bits(out / LAST, finished / LAST)


def test_settings_that_cannot_be_read_are_said(finished, tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"name": "demo", "science": {"epochs": "many"}}')
    assert train(["--resume", str(tmp_path)]) == 2
    assert "config.json cannot be used" in capsys.readouterr().err
    assert train(["--resume", str(finished), "--out", str(tmp_path)]) == 2
    assert "Give one of the two" in capsys.readouterr().err


def test_progress_of_an_older_version_knows_no_end():
    assert Progress(step=3, evaluated=3).continued == []
    assert not Progress(step=3, evaluated=3).is_at_best
