"""The demo's data: the same bytes for the same seed, the counts that it promises, and nothing of others replaced."""

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from debiaspl.commands import demo_data
from pipelines.errors import DataError
from pipelines.samples.listing import list_images
from pipelines.samples.split import read_split

SMALL = {"--labels-per-class": "3", "--val-per-class": "20", "--imbalance": "15", "--side": "8"}
CLASSES = ["0_zero", "1_one", "2_two", "3_three", "4_four", "5_five", "6_six", "7_seven", "8_eight", "9_nine"]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return demo_data


def make(tool: ModuleType, out: Path, **changed: str) -> int:
    options = {**SMALL, **{f"--{name.replace('_', '-')}": value for name, value in changed.items()}}
    return tool.main(["--out", str(out), *(word for option in options.items() for word in option)])


def digest(root: Path) -> str:
    """Of all names and bytes."""
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        found.update(
            str(path.relative_to(root)).encode() + b"\0" + (path.read_bytes() if path.is_file() else b"") + b"\0"
        )
    return found.hexdigest()


def indexes(root: Path, name: str) -> list[int]:
    with (root / "indexes" / name).open(newline="") as file:
        return [int(row["Index"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def made(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("made") / "demo"
    assert make(tool, out) == 0
    return out


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    tool: ModuleType, made: Path, tmp_path: Path
) -> None:
    assert make(tool, tmp_path / "again") == 0
    assert digest(tmp_path / "again") == digest(made)
    assert make(tool, tmp_path / "other", seed="1") == 0
    assert digest(tmp_path / "other") != digest(made)
    names, others = ({path.name for path in (root / "val").rglob("*.jpg")} for root in (made, tmp_path / "other"))
    assert len(names & others) < len(names) / 2  # other digits, not only another order


def test_counts(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {"train", "val", "indexes", "demo.txt"}
    train, val = list_images(made / "train"), list_images(made / "val")
    assert list(train.classes) == list(val.classes) == CLASSES
    assert np.bincount(val.labels).tolist() == [20] * 10
    labeled, unlabeled = indexes(made, "labeled.csv"), indexes(made, "unlabeled.csv")
    assert np.bincount(train.labels[labeled]).tolist() == [3] * 10
    assert sorted(labeled + unlabeled) == list(range(len(train)))
    assert len({*labeled, *unlabeled}) == len(train)


def test_unlabeled_classes_are_long_tailed(made: Path) -> None:
    """The published counts: of the rarest digit 174 - 20 - 3, exponentially down to a fifteenth of that."""
    train = list_images(made / "train")
    counts = np.bincount(train.labels[indexes(made, "unlabeled.csv")])
    assert sorted(counts.tolist(), reverse=True) == [round(151 * 15 ** (-rank / 9)) for rank in range(10)]
    assert counts.tolist() != sorted(counts.tolist())
    assert counts.tolist() != sorted(counts.tolist(), reverse=True)  # frequency does not follow the digit's value


def test_no_imbalance_is_balanced(tool: ModuleType, tmp_path: Path) -> None:
    assert make(tool, tmp_path / "demo", imbalance="1") == 0
    train = list_images(tmp_path / "demo" / "train")
    assert np.bincount(train.labels).tolist() == [154] * 10


def test_training_and_validation_share_no_digit(made: Path) -> None:
    train, val = ({path.name for path in (made / part).rglob("*.jpg")} for part in ("train", "val"))
    assert not train & val
    assert len(val) == 200


def test_pictures_are_the_scans_under_their_true_labels(made: Path) -> None:
    digits = load_digits()
    listing = list_images(made / "train")
    for index in range(0, len(listing), 7):
        number = int(listing.path(index).stem)
        assert digits.target[number] == listing.labels[index]
        with Image.open(listing.path(index)) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (8, 8))
            shown = np.asarray(image).astype(float)
        assert np.abs(shown - digits.images[number][..., None] * 255 / 16).mean() < 5


def test_the_side(tool: ModuleType, tmp_path: Path) -> None:
    assert make(tool, tmp_path / "demo", side="20") == 0
    listing = list_images(tmp_path / "demo" / "val")
    assert {*listing.heights.tolist(), *listing.widths.tolist()} == {20}


def test_the_split_reads_it(made: Path) -> None:
    listing = list_images(made / "train")
    split = read_split(listing, made / "indexes" / "labeled.csv", made / "indexes" / "unlabeled.csv")
    assert np.bincount(split.labels[split.labeled]).tolist() == [3] * 10


def test_it_replaces_what_it_made(tool: ModuleType, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    assert make(tool, out, seed="5") == 0
    (out / "ffcv").mkdir()
    (out / "ffcv" / "train.beton").write_text("made of the old images")
    assert make(tool, out) == 0
    assert digest(out) == digest(made)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
def test_it_does_not_replace_what_others_made(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / "imagenet"
    if kind == "file":
        out.write_text("precious")
    else:
        out.mkdir()
    if kind == "folder":
        (out / "train" / "n01440764").mkdir(parents=True)
        (out / "train" / "n01440764" / "1.JPEG").write_bytes(b"precious")
    before = digest(tmp_path)
    assert make(tool, out) == 2
    assert digest(tmp_path) == before
    message = capsys.readouterr().err
    assert (
        message == f"error: {out} exists and is not a demo data set: not replacing it. Name another folder with --out\n"
    )


@pytest.mark.parametrize("below", ["x", "x/y/z"])
def test_a_path_below_a_file_is_one_sentence(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str
) -> None:
    (tmp_path / "file").write_text("precious")
    out = tmp_path / "file" / below
    assert make(tool, out) == 2
    reason = "File exists" if below == "x" else "Not a directory"
    assert capsys.readouterr().err == f"error: Cannot write to {out}: {reason}. Name another folder with --out\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "precious"


def test_a_failure_leaves_what_was_there(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert make(tool, out, seed="5") == 0
    before = digest(tmp_path)
    written = []

    def full(path: Path, *_: object) -> None:
        written.append(path)
        if len(written) == 30:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tool, "_write_jpeg", full)
    assert make(tool, out) == 2
    assert f"Cannot write to {out}: No space left on device. Name another" in capsys.readouterr().err
    assert len(written) == 30
    assert digest(tmp_path) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels_per_class": "0"},
        {"labels_per_class": "21"},
        {"val_per_class": "0"},
        {"val_per_class": "101"},
        {"imbalance": "0.5"},
        {"imbalance": "-3"},
        {"imbalance": "nan"},
        {"seed": "-1"},
        {"side": "7"},
        {"side": "257"},
    ],
    ids=str,
)
def test_wrong_parameters(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, str]
) -> None:
    assert make(tool, tmp_path / "demo", **wrong) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: Wanted: ")
    assert str(float(*wrong.values())) in printed.err or next(iter(wrong.values())) in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [["--side", "large"], ["--colour", "red"]], ids=str)
def test_wrong_arguments(tool: ModuleType, tmp_path: Path, wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tool.main(["--out", str(tmp_path / "demo"), *wrong])
    assert caught.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_class_sizes(tool: ModuleType) -> None:
    sizes = tool.class_sizes(np.array([130, 121, 180]), 100.0)
    assert sizes.tolist() == [121, 12, 1]
    assert tool.class_sizes(np.array([5, 5]), 1000.0).tolist() == [5, 1]  # at least one
    with pytest.raises(DataError, match="imbalance ≥ 1"):
        tool.write_demo_data(Path("nowhere"), labels_per_class=1, imbalance=0.0, val_per_class=1, side=8, seed=0)


def test_it_runs_as_a_script(tmp_path: Path) -> None:
    tool = Path(__file__).parents[2] / "tools" / "make_demo_data.py"
    command = [sys.executable, str(tool), "--out", "a/new/demo", "--val-per-class", "5", "--side", "8"]
    command += ["--labels-per-class", "4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counted = Counter(path.relative_to(tmp_path / "a/new/demo").parts[0] for path in tmp_path.rglob("*.jpg"))
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(f"a/new/demo: {counted['train']} training images (4 labels per class), 50 ")
    assert counted["val"] == 50
