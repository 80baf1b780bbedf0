"""Predictions: what an evaluation finds, on every pipeline, with nothing but the checkpoint and a folder."""

import csv
import shutil
from pathlib import Path

import pytest

from debiaspl.checkpoint_file import BEST, LAST, packed, read
from debiaspl.distributed import Ranks
from debiaspl.evaluation.guesses import Guesses
from debiaspl.predict import main
from debiaspl.using.evaluation import evaluated
from debiaspl.using.trained import open_trained
from debiaspl.using.validation import open_folder
from pipelines import NAMES
from tools.convert_imagenet_to_ffcv import main as convert


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def validation(few_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation images on their own, with their .beton beside them."""
    root = tmp_path_factory.mktemp("predict")
    shutil.copytree(few_data / "val", root / "val")
    assert convert(["--data", str(root), "--split", "val"]) == 0
    return root / "val"


@pytest.fixture(scope="module")
def expected(trained_run: Path, validation: Path) -> dict[str, tuple[Guesses, list[str]]]:
    """What an evaluation on torchvision finds for each network, and the files in its order."""
    trained = open_trained(trained_run)
    images = open_folder(validation, trained.recipe, trained.classes, "torchvision")
    results = evaluated(trained, [images], None, Ranks(), with_knn=False)
    return {each.model: (each.guesses, list(images.listing.paths)) for each in results}


@pytest.mark.parametrize("pipeline", NAMES)
def test_predictions_are_those_of_an_evaluation_on_every_pipeline(
    trained_run, validation, expected, tmp_path, pipeline, capsys
):
    if pipeline == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    out = tmp_path / "labels.csv"
    flags = ["--pipeline", pipeline, "--model", "student", "--out", str(out)]
    assert main([str(trained_run), str(validation), *flags]) == 0
    rows, (guesses, files) = rows_of(out), expected["student"]
    classes = read(trained_run / BEST)["about"]["classes"]
    assert [row["file"] for row in rows] == files
    for place in range(5):
        assert [row[f"label_{place + 1}"] for row in rows] == [classes[label] for label in guesses.label[:, place]]
        shares = [f"{share:.6f}" for share in guesses.confidence[:, place]]
        assert [row[f"confidence_{place + 1}"] for row in rows] == shares
    assert all(row["label"] == row["label_1"] and row["confidence"] == row["confidence_1"] for row in rows)
    assert "100 pictures" in capsys.readouterr().out


@pytest.fixture
def pictures(few_data: Path, tmp_path: Path) -> Path:
    """A folder of pictures at several depths: whole ones, one without a header, one cut short, one of another kind."""
    folder = tmp_path / "pictures"
    whole = sorted((few_data / "val").rglob("*.jpg"))[:7]
    for number, path in enumerate(whole):
        target = folder / ("deep/er" if number % 2 else ".") / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (folder / "=none.jpg").write_text("not a picture")
    (folder / "cut <b>.jpg").write_bytes(whole[0].read_bytes()[:-250])
    (folder / "notes.txt").write_text("no picture by its name")
    return folder


@pytest.mark.parametrize("batch", [1, 100])
def test_broken_pictures_are_skipped_counted_and_listed(trained_run, pictures, tmp_path, capsys, batch):
    out = tmp_path / "labels.csv"
    sheet = tmp_path / "sheet.html"
    flags = ["--out", str(out), "--html", str(sheet), "--set", f"engine.eval_batch={batch}"]
    assert main([str(trained_run), str(pictures), *flags]) == 0
    said = capsys.readouterr()
    assert [row["file"] for row in rows_of(out)] == [f"{n}.jpg" for n in (0, 2, 4, 6)] + [
        f"deep/er/{n}.jpg" for n in (1, 3, 5)
    ]
    assert [row["file"] for row in rows_of(tmp_path / "labels.skipped.csv")] == ["'=none.jpg", "cut <b>.jpg"]
    assert "7 pictures" in said.out
    assert "2 cannot be decoded and have no row" in said.err
    assert "=none.jpg: not an image" in said.err
    page = sheet.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 7
    assert "deep/er/5.jpg" in page
    # Once all are whole, no list of skipped ones is left.
    (pictures / "=none.jpg").unlink()
    (pictures / "cut <b>.jpg").unlink()
    assert main([str(trained_run), str(pictures), "--out", str(out)]) == 0
    assert not (tmp_path / "labels.skipped.csv").exists()


def test_a_picture_gets_the_same_row_among_others(trained_run, pictures, tmp_path):
    for folder in (pictures, pictures / "deep"):
        assert main([str(trained_run), str(folder), "--out", str(tmp_path / f"{folder.name}.csv")]) == 0
    deep = {f"deep/{row['file']}": row["label"] for row in rows_of(tmp_path / "deep.csv")}
    among = {row["file"]: row["label"] for row in rows_of(tmp_path / "pictures.csv")}
    assert len(deep) == 3
    assert {name: among[name] for name in deep} == deep


def test_none_of_the_pictures_is_whole(trained_run, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.jpg").write_text("no")
    assert main([str(trained_run), str(tmp_path / "pictures"), "--out", str(tmp_path / "l.csv")]) == 2
    assert "None of the images can be decoded" in capsys.readouterr().err
    assert not (tmp_path / "l.csv").exists()


def test_the_runs_pipeline_gives_way_to_one_that_reads_files(trained_run, pictures, tmp_path, capsys):
    run = tmp_path / "run.pt"
    content = read(trained_run / BEST)
    content["recipe"]["engine"]["pipeline"] = "ffcv"
    run.write_bytes(packed(content))
    assert main([str(run), str(pictures), "--out", str(tmp_path / "l.csv")]) == 0
    assert "the run's pipeline ffcv gives way to" in capsys.readouterr().err
    assert main([str(run), str(pictures), "--out", str(tmp_path / "l.csv"), "--pipeline", "ffcv"]) == 2
    assert "Make it with: " in capsys.readouterr().err


def test_an_older_run_without_names_or_a_best_is_used_all_the_same(trained_run, pictures, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    content = read(trained_run / LAST)
    del content["about"]
    content["recipe"]["engine"]["data"] = str(tmp_path / "gone")
    (run / LAST).write_bytes(packed(content))
    assert main([str(run), str(pictures), "--out", str(tmp_path / "l.csv")]) == 0
    assert {row["label"] for row in rows_of(tmp_path / "l.csv")} <= {str(number) for number in range(10)}
    said = capsys.readouterr().err
    assert "has no best.pt: last.pt is used" in said
    assert "called by number" in said


@pytest.mark.parametrize("kind", ["empty folder", "nothing", "foreign", "damaged", "science", "no parent", "misnamed"])
def test_what_cannot_be_used_is_said_for_what_it_is(trained_run, pictures, tmp_path, capsys, kind):
    run, out, more = tmp_path / "x", tmp_path / "l.csv", []
    words = {
        "empty folder": "is a folder without a checkpoint",
        "nothing": "There is no checkpoint",
        "foreign": "it is another kind of file",
        "damaged": "is damaged",
        "science": "Science",
        "no parent": "Make it first",
        "misnamed": "it names 1 classes and has 10 outputs",
    }
    if kind == "empty folder":
        run.mkdir()
    elif kind == "foreign":
        run.write_bytes(b"\x89PNG\r\n")
    elif kind == "damaged":
        run.write_bytes((trained_run / BEST).read_bytes()[:-9] + bytes(9))
    elif kind == "misnamed":
        content = read(trained_run / BEST)
        run.write_bytes(packed({**content, "about": {**content["about"], "classes": ["a"], "labeled": [2]}}))
    elif kind != "nothing":
        run = trained_run
    more = ["--set", "science.tau=0.3"] if kind == "science" else []
    out = tmp_path / "none/l.csv" if kind == "no parent" else out
    assert main([str(run), str(pictures), "--out", str(out), *more]) == 2
    said = capsys.readouterr().err
    assert words[kind] in said
    assert said.startswith("error: ")
    assert not out.exists()
