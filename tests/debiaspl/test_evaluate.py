"""The evaluate command in detail: what best.pt announced, classes, calibration, confusion, mistakes, other folders."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from debiaspl.checkpoint_file import BEST, LAST, read
from debiaspl.data import read_data
from debiaspl.distributed import Ranks
from debiaspl.evaluate import main
from debiaspl.evaluation.detail import balanced_over, calibration_error, detail, per_class, thirds
from debiaspl.evaluation.guesses import Guesses
from debiaspl.using.evaluation import evaluated
from debiaspl.using.trained import open_trained
from debiaspl.using.validation import own

CLASSES = ["ant", "bee", "cow"]


@pytest.fixture
def guesses() -> Guesses:
    """Six images of which the last was not seen: 0→0, 0→1, 1→1, 1→0, 1→0."""
    label = np.array([[0, 1], [1, 0], [1, 2], [0, 1], [0, 2], [2, 2]])
    sure = np.array([0.9, 0.6, 0.7, 0.55, 0.95, 0], np.float32)
    return Guesses(label, np.stack([sure, 1 - sure], 1), np.arange(6) < 5)


TRUTH = np.array([0, 0, 1, 1, 1, 2])


def test_an_evaluation_in_detail_by_hand(guesses):
    found = detail(guesses, TRUTH, 3)
    assert found.confusion.tolist() == [[1, 1, 0], [2, 1, 0], [0, 0, 0]]
    assert found.accuracy == pytest.approx((40.0, 100 * (1 / 2 + 1 / 3) / 2))
    assert found.top5 == pytest.approx(80.0)
    assert per_class(found, CLASSES) == [["ant", "2", "1", "50.0", "bee (1)"], ["bee", "3", "1", "33.3", "ant (2)"]]
    assert balanced_over(found, np.array([1, 2])) == pytest.approx(100 / 3)
    assert balanced_over(found, np.array([2])) is None
    gaps = [abs(1 - 0.9), 0.6, abs(1 - 0.7), 0.55, 0.95]  # each in a bin of its own
    assert found.calibration == pytest.approx(100 * sum(gaps) / 5, abs=1e-4)


def test_calibration_error_by_hand():
    sure = np.array([0.62, 0.64, 0.66, 1.0], np.float32)  # three in the bin from 9/15 to 10/15
    right = np.array([True, False, True, True])
    assert calibration_error(sure, right) == pytest.approx(abs(2 - (0.62 + 0.64 + 0.66)) / 4, abs=1e-6)
    assert calibration_error(np.full(8, 0.75, np.float32), np.arange(8) < 6) == pytest.approx(0)


def test_thirds_of_the_classes():
    parts = thirds(np.array([5, 100, 7, 1, 50, 2]))
    assert {name: sorted(labels.tolist()) for name, labels in parts.items()} == {
        "head": [1, 4],
        "middle": [0, 2],
        "tail": [3, 5],
    }
    assert thirds(np.array([4, 4, 4])) == thirds(np.array([1, 2])) == {}


def test_the_best_checkpoint_evaluates_to_what_the_last_one_announces(trained_run):
    """To the last digit of a float."""
    trained = open_trained(trained_run)
    split, validation = read_data(trained.recipe)
    results = evaluated(trained, [own(trained.recipe, validation)], split, Ranks(), with_knn=False)
    announced = read(trained_run / LAST)["progress"]["best"]
    assert trained.path == trained_run / BEST
    for each in results:
        told = announced[each.model]
        assert (each.detail.accuracy.top1, each.detail.accuracy.balanced) == (told["top1"], told["balanced"])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_matrix_and_mistakes_agree(trained_run, tmp_path, capsys):
    out, wrong = tmp_path / "evaluation", tmp_path / "wrong.csv"
    flags = ["--out", str(out), "--mistakes", str(wrong), "--model", "teacher"]
    assert main([str(trained_run), *flags]) == 0
    said = capsys.readouterr().out
    teacher = next(row for row in rows_of(out / "accuracy.csv") if row["model"] == "teacher")
    assert teacher["images"] == "100"
    assert re.search(rf"teacher\W+{teacher['top1']}\W+{teacher['top5']}\W+{teacher['balanced']}", said)
    classes = rows_of(out / "per_class.csv")
    right = sum(int(row["right"]) for row in classes)
    assert float(teacher["top1"]) == right
    matrix = rows_of(out / "confusion.csv")
    assert sum(int(row[row["true class"]]) for row in matrix) == right
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    mistaken = rows_of(wrong)
    assert len(mistaken) == 100 - right
    assert all(row["file"].startswith(f"{row['class']}/") and row["taken_for"] != row["class"] for row in mistaken)
    sure = [float(row["confidence"]) for row in mistaken]
    assert sure == sorted(sure, reverse=True)
    assert (tmp_path / "wrong.html").read_text().count("data:image/jpeg") == len(mistaken)
    assert f"{len(mistaken)} images taken for others" in said
    assert "balanced accuracy by thirds of the classes" in said  # the demo's unlabeled images are long-tailed


@pytest.fixture
def shifted(few_data: Path, tmp_path: Path) -> dict[str, Path]:
    """Folders without training images: all classes by name, three of them, all by place, one with another class."""
    folders = {}
    for name in ("whole", "few", "places", "strange"):
        folder = folders[name] = tmp_path / name
        shutil.copytree(few_data / "val", folder)
    classes = sorted(path.name for path in (few_data / "val").iterdir())
    for name in classes[3:]:
        shutil.rmtree(folders["few"] / name)
    for number, name in enumerate(classes):
        (folders["places"] / name).rename(folders["places"] / f"{number}")
    (folders["strange"] / classes[0]).rename(folders["strange"] / "[unheard] of")
    return folders


def test_several_folders_in_one_table(trained_run, shifted, tmp_path, capsys):
    folders = [str(shifted[name]) for name in ("whole", "few", "places")]
    assert main([str(trained_run), "--out", str(tmp_path / "out"), "--val", *folders]) == 0
    rows = {(row["folder"], row["model"]): row for row in rows_of(tmp_path / "out/accuracy.csv")}
    assert len(rows) == 6
    assert rows["few", "student"]["classes"] == "3"
    assert rows["few", "student"]["images"] == "30"
    for model, told in read(trained_run / BEST)["progress"]["last"].items():
        for name in ("whole", "places"):
            assert rows[name, model]["top1"] == f"{told['top1']:.2f}"
        # Only three classes come into question, so none is taken for another one.
        assert float(rows["few", model]["top1"]) > 100 / 10
    confusion = rows_of(tmp_path / "out/2-few/confusion.csv")
    assert sum(int(count) for row in confusion for count in list(row.values())[1:4]) == 30
    assert "note:" not in capsys.readouterr().err


def test_class_folders_that_the_network_does_not_know_are_refused(trained_run, shifted, capsys):
    assert main([str(trained_run), "--val", str(shifted["strange"])]) == 2
    assert "class folders that the network does not know: [unheard] of" in capsys.readouterr().err


def test_a_new_folder_needs_no_training_images(trained_run, shifted, tmp_path, capsys):
    assert main([str(trained_run), "--val", str(shifted["whole"]), "--data", str(tmp_path / "nowhere")]) == 0
    assert "Bias of p̂" in capsys.readouterr().out
    assert main([str(trained_run), "--data", str(tmp_path / "nowhere")]) == 2
    assert "There is no data folder" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_said(trained_run, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([str(trained_run), "--out", str(tmp_path / "file")]) == 2
    assert "The evaluation cannot be written" in capsys.readouterr().err
