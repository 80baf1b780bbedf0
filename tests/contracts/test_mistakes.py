"""Natural mistakes: each ends with status 2 and one message that says the remedy, without a traceback."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from debiaspl.__main__ import main
from debiaspl.run_folder import RunFolder
from tests.support.runs import quick

DEMO = ("train", "--recipe", "demo", "--pipeline", "torchvision", "--set", "engine.device=cpu")
Make = Callable[[Path, Path], list[str]]
"""(the demo's data, an empty folder) → the command's words."""


def in_demo(*words: str) -> Make:
    return lambda data, _: [*DEMO, "--data", str(data), *words]


def without(part: str) -> Make:
    """Trains on data that lacks a file or folder."""

    def make(data: Path, folder: Path) -> list[str]:
        copy = shutil.copytree(data, folder / "data")
        shutil.rmtree(copy / part) if (copy / part).is_dir() else (copy / part).unlink()
        return [*DEMO, "--data", str(copy)]

    return make


def val_without_classes(data: Path, folder: Path) -> list[str]:
    copy = shutil.copytree(data, folder / "data")
    for path in list((copy / "val").rglob("*.jpg")):
        path.rename(copy / "val" / path.name)
    for path in list((copy / "val").iterdir()):
        if path.is_dir():
            path.rmdir()
    return [*DEMO, "--data", str(copy)]


def given_file(*words: str, name: str, content: bytes) -> Make:
    """The words, in which {} is a file of that content."""

    def make(data: Path, folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [word.format(folder / name, data=data, folder=folder) for word in words]

    return make


def words(*given: str) -> Make:
    """The words, in which {folder} is an empty folder."""
    return lambda data, folder: [word.format(data=data, folder=folder) for word in given]


def foreign_checkpoint(data: Path, folder: Path) -> list[str]:
    torch.save({"model": torch.zeros(2)}, folder / "last.pt")
    return ["evaluate", str(folder / "last.pt")]


def run_in_a_file(data: Path, folder: Path) -> list[str]:
    (folder / "run").touch()
    return quick_train(data, folder / "run")


def quick_train(data: Path, out: Path, *more: str) -> list[str]:
    return ["train", *quick(data, out, *more)]


def started_over_a_finished_run(data: Path, folder: Path) -> list[str]:
    (folder / "last.pt").write_bytes(b"of an earlier run")
    return quick_train(data, folder)


MISTAKES: dict[str, tuple[Make, str]] = {
    "a misspelt command": (words("trian"), "did you mean train"),
    "a misspelt recipe": (words("train", "--recipe", "dmeo"), "did you mean demo"),
    "a misspelt pipeline": (words("train", "--recipe", "demo", "--pipeline", "dahli"), "did you mean dali"),
    "a misspelt field": (words("train", "--recipe", "demo", "--set", "science.tua=1"), r"did you mean science\.tau"),
    "a misspelt section": (words("train", "--recipe", "demo", "--set", "sience.tau=1"), "there are science"),
    "a field without a value": (words("train", "--set", "science.tau"), r"section\.field=value"),
    "a word for a number": (words("train", "--set", "science.epochs=many"), r"must be int \(got 'many'\)"),
    "a value out of bounds": (words("train", "--set", "science.threshold=80"), "within 0 and 1"),
    "a misspelt network": (words("train", "--recipe", "demo", "--set", "science.arch=resnet5"), "resnet50"),
    "an unknown flag": (words("train", "--epochs", "3"), "unrecognized arguments: --epochs"),
    "groups that do not divide": (words("train", "--set", "science.group=7"), "Valid groups: 1, 2, 4"),
    "a GPU that is not there": (in_demo("--set", "engine.device=cuda"), r"engine\.device=cpu"),
    "a data folder that is not there": (words(*DEMO, "--data", "{folder}/no"), "--data"),
    "no train folder": (without("train"), "train"),
    "no val folder": (without("val"), "val"),
    "a class without validation pictures": (without("val/3_three"), "differ in their class folders: 3_three"),
    "val without classes": (val_without_classes, "val"),
    "no index file": (without("indexes/labeled.csv"), r"--set engine\.labeled_csv"),
    "too few unlabeled pictures": (in_demo("--set", "science.labeled_batch=400", "--set", "science.group=400"),
                                   r"Lower science\.labeled_batch"),
    "weights that are not there": (in_demo("--init", "nowhere.pth"), r"nowhere\.pth"),
    "a picture as weights": (given_file("import", "{}", "--arch", "resnet8-small", name="a.pth", content=b"\xff\xd8"),
                             r"a\.pth"),
    "a run's folder that is a file": (run_in_a_file, "--out"),
    "a second run in a folder": (started_over_a_finished_run, "--resume auto"),
    "an unknown file to resume from": (in_demo("--resume", "nowhere.pt"), "no checkpoint nowhere.pt"),
    "a folder without a checkpoint": (words("evaluate", "{folder}"), "last.pt|checkpoint"),
    "a text file as checkpoint": (given_file("evaluate", "{}", name="a.pt", content=b"hello"), "a.pt"),
    "a foreign checkpoint": (foreign_checkpoint, "not a checkpoint of this program"),
    "a run that is not there": (words("predict", "{folder}/no", "{data}", "--out", "{folder}/a.csv"), "no"),
    "an unknown format": (words("export", "{folder}", "--format", "keras"), "onnx"),
    "an unknown method": (words("compare", "--methods", "fixmtch"), "did you mean fixmatch"),
    "a head without weights": (lambda data, _: ["compare", "--recipe", "demo", "--data", str(data), "--methods",
                                                "linear"], "--init"),
    "no run below a folder": (words("runs", "{folder}"), r"config\.json"),
    "more labels than pictures": (words("splits", "per-class", "5000", "--data", "{data}"), "5000"),
    "a percentage of nothing": (words("splits", "percent", "many"), "must be a number"),
    "a conversion without data": (words("convert"), "--data ROOT is needed"),
    "a conversion of nothing": (words("convert", "--data", "{folder}"), "train"),
    "a demo over one's own folder": (given_file("demo-data", "--out", "{folder}", name="mine", content=b""),
                                     "not replacing it"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_said_with_its_remedy(name, demo_data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    make, remedy = MISTAKES[name]
    given = make(demo_data, folder)
    try:
        status = main(given)
    except SystemExit as ended:  # argparse's own messages
        status = ended.code
    said = capsys.readouterr().err
    assert status == 2, said
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    assert re.search(remedy, said), said


def test_two_runs_in_one_folder(demo_data, tmp_path, capsys):
    held = RunFolder(tmp_path / "run")
    try:
        assert main(quick_train(demo_data, tmp_path / "run")) == 2
    finally:
        held.close()
    assert "Wait for it, stop it, or name another folder with --out" in capsys.readouterr().err


def test_there_are_thirty():
    assert len(MISTAKES) >= 30
