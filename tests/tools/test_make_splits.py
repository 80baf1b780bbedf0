"""The splits tool: counts as promised, the same files on every machine, nothing of others overwritten."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from debiaspl.commands import splits
from pipelines.errors import DataError
from pipelines.samples import subsets
from pipelines.samples.listing import Listing, list_images
from pipelines.samples.split import read_split

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return splits


@pytest.fixture(scope="module")
def imagenet() -> Listing:
    """A listing as unequal as ImageNet's: 1000 classes of 732 to 1300 images; no files are needed."""
    return unequal(1000)


@pytest.fixture(scope="module")
def part() -> Listing:
    """A listing of 200 such classes."""
    return unequal(200)


def unequal(classes: int) -> Listing:
    rng = np.random.default_rng(0)
    sizes = rng.integers(732, 1301, classes)
    sizes[:3] = 732, 1300, 1250
    names = [f"n{label:08}" for label in range(classes)]
    paths = tuple(f"{n}/{n}_{i}.JPEG" for n, size in zip(names, sizes, strict=True) for i in range(size))
    sides = np.full(len(paths), 10, np.int32)
    return Listing(Path("/data/train"), tuple(names), paths, np.repeat(np.arange(classes), sizes), sides, sides)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three classes of 12, 20 and 5 images, one name not ASCII, one not even UTF-8."""
    content = tmp_path / "image.jpg"
    Image.new("RGB", (9, 7)).save(content)
    for name, count in (("ant", 12), ("bee colony", 20), ("zébu", 5)):
        folder = tmp_path / "data" / "train" / name
        folder.mkdir(parents=True)
        for number in range(count):
            shutil.copy(content, folder / f"{number}.jpg")
    shutil.copy(content, tmp_path / "data" / "train" / "ant" / os.fsdecode(b"caf\xe9.jpg"))
    return tmp_path / "data"


def column(path: Path, name: str = "Index") -> list[str]:
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def indexes(path: Path) -> list[int]:
    return [int(text) for text in column(path)]


# --- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", ["1", "0.01"])
def test_percentages_are_rounded_in_each_class_and_at_least_one(part: Listing, percent: str) -> None:
    labeled, unlabeled = subsets.by_percent(part, Fraction(percent), 0)
    sizes = np.bincount(part.labels)
    expected = [max(1, round(Fraction(percent) * int(size) / 100)) for size in sizes]
    assert np.bincount(part.labels[labeled], minlength=200).tolist() == expected
    assert expected[2] == {"1": 12, "0.01": 1}[percent]  # of 1250: 12.5, halves to even
    assert np.array_equal(np.sort(np.concatenate([labeled, unlabeled])), part.indices)
    assert np.array_equal(labeled, np.sort(labeled))


def test_smaller_percentages_are_within_larger_ones(part: Listing) -> None:
    small, large = (subsets.by_percent(part, Fraction(p), 0).labeled for p in ("0.2", "1"))
    assert set(small.tolist()) < set(large.tolist())
    assert set(large.tolist()) != set(subsets.by_percent(part, Fraction(1), 1).labeled.tolist())


def test_other_classes_do_not_matter(part: Listing) -> None:
    """Without the first 100 classes, the others' labeled images are the same files."""
    cut = int((part.labels < 100).sum())
    fewer = Listing(
        Path("/elsewhere"), part.classes[100:], part.paths[cut:], part.labels[cut:] - 100,
        part.heights[cut:], part.widths[cut:],
    )  # fmt: skip
    all_ = {part.paths[i] for i in subsets.by_count(part, 3, 0).labeled if i >= cut}
    assert {fewer.paths[i] for i in subsets.by_count(fewer, 3, 0).labeled} == all_


def test_the_draw_is_pinned(imagenet: Listing) -> None:
    """Splits that people have made must come again."""
    labeled = subsets.by_count(imagenet, 1, 0).labeled
    assert hashlib.sha256(labeled.tobytes()).hexdigest()[:16] == "e3cbf04da82c9597"


def test_each_image_is_as_likely_as_another(part: Listing) -> None:
    labeled = subsets.by_percent(part, Fraction(10), 0).labeled
    within = labeled - np.searchsorted(part.labels, part.labels[labeled])
    counts = np.histogram(within[within < 700], bins=10)[0]
    assert abs(counts / counts.mean() - 1).max() < 0.06


def test_long_tails() -> None:
    assert subsets.tail(10, 500, 100).tolist() == [500, 300, 180, 108, 65, 39, 23, 14, 8, 5]
    assert subsets.tail(3, 40, 4, reversed_=True).tolist() == [10, 20, 40]
    assert subsets.tail(4, 5, 1).tolist() == [5] * 4
    assert subsets.tail(3, 2, 100).tolist() == [2, 1, 1]
    assert subsets.tail(1, 7, 100).tolist() == [7]
    for head, gamma in ((0, 2.0), (4, 0.5)):
        with pytest.raises(DataError, match="A long tail wants"):
            subsets.tail(3, head, gamma)


@pytest.mark.parametrize("back", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_long_tailed_split(imagenet: Listing, back: bool) -> None:
    labeled, unlabeled = subsets.tail(1000, 50, 10), subsets.tail(1000, 600, 20, reversed_=back)
    chosen = subsets.long_tail(imagenet, labeled, unlabeled, 0)
    assert np.bincount(imagenet.labels[chosen.labeled]).tolist() == labeled.tolist()
    assert np.bincount(imagenet.labels[chosen.unlabeled]).tolist() == unlabeled.tolist()
    assert not set(chosen.labeled.tolist()) & set(chosen.unlabeled.tolist())


def test_a_class_that_is_too_small_is_named(imagenet: Listing) -> None:
    with pytest.raises(DataError, match="Class n00000000 has 732 usable images, but 733 are wanted"):
        subsets.by_count(imagenet, 733, 0)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "names"), [("1", "1p 99p"), ("0.2", "0.2p 99.8p"), ("10.0", "10p 90p")])
def test_percent_writes_the_published_names(
    tool: ModuleType, data: Path, capsys: pytest.CaptureFixture[str], percent: str, names: str
) -> None:
    assert tool.main(["percent", percent, "--data", str(data)]) == 0
    labeled, unlabeled = (data / "indexes" / f"train_{name}_index.csv" for name in names.split())
    assert labeled.read_text().startswith("Index\n")
    split = read_split(list_images(data / "train"), labeled, unlabeled)
    assert np.bincount(split.labels[split.labeled]).tolist() == ([1, 2, 1] if percent == "10.0" else [1, 1, 1])
    assert sorted([*split.labeled, *split.unlabeled]) == list(range(38))
    assert "38 images of 3 classes" in capsys.readouterr().out


def test_per_class_and_other_names(tool: ModuleType, data: Path) -> None:
    assert tool.main(["per-class", "4", "--data", str(data), "--seed", "7"]) == 0
    assert tool.main(["per-class", "4", "--data", str(data), "--seed", "7", "--name", "mine", "--out", str(data)]) == 0
    first, second = data / "indexes" / "train_4perclass_index.csv", data / "mine_index.csv"
    assert len(indexes(first)) == 12
    assert first.read_bytes() == second.read_bytes()
    assert (data / "mine_rest_index.csv").exists()
    described = json.loads((data / "mine_index.split.json").read_text())
    assert described["rule"] == {"rule": "per-class", "seed": 7, "count": 4, "left_out_as_bad": 0}
    assert described["command"] == "python tools/make_splits.py per-class --name mine --seed 7 4"


def test_long_tail_command(tool: ModuleType, data: Path) -> None:
    tails = ["--labeled", "4", "--labeled-gamma", "2", "--unlabeled", "8", "--unlabeled-gamma", "4"]
    assert tool.main(["long-tail", *tails, "--data", str(data)]) == 0
    assert tool.main(["long-tail", *tails, "--data", str(data), "--name", "back", "--reversed"]) == 2  # zébu has 5
    folder = data / "indexes"
    split = read_split(
        list_images(data / "train"), folder / "train_lt4g2_8g4_labeled_index.csv",
        folder / "train_lt4g2_8g4_unlabeled_index.csv",
    )  # fmt: skip
    assert np.bincount(split.labels[split.labeled]).tolist() == [4, 3, 2]
    described = json.loads((folder / "train_lt4g2_8g4_labeled_index.split.json").read_text())
    assert described["rule"]["unlabeled_gamma"] == 4
    assert described["command"].endswith("--labeled 4 --labeled-gamma 2.0 --unlabeled 8 --unlabeled-gamma 4.0")


def test_the_noted_command_makes_the_same_files(tool: ModuleType, data: Path) -> None:
    for words in (
        ["percent", "12.5", "--seed", "3"],
        ["long-tail", "--labeled=2", "--labeled-gamma=2", "--unlabeled=3", "--unlabeled-gamma=3", "--reversed"],
    ):
        assert tool.main([*words, "--data", str(data), "--name", "one"]) == 0
        before = {path.name: path.read_bytes() for path in (data / "indexes").iterdir()}
        command = json.loads(before["one_index.split.json"])["command"].split()
        assert command[:2] == ["python", "tools/make_splits.py"]
        shutil.rmtree(data / "indexes")
        assert tool.main([*command[2:], "--data", str(data)]) == 0
        assert {path.name: path.read_bytes() for path in (data / "indexes").iterdir()} == before
        shutil.rmtree(data / "indexes")


@pytest.mark.parametrize("kind", ["csv", "ranked"])
def test_confident_guesses_become_labels(tool: ModuleType, data: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    probability = rng.dirichlet([0.3] * 3, 38).astype(np.float32)
    label, confidence = probability.argmax(1), probability.max(1)
    if kind == "csv":
        halves = [data / "first.csv", data / "second.csv"]
        for path, rows in zip(halves, (range(0, 38, 2), range(1, 38, 2)), strict=True):
            path.write_text(",Index,PseudoLabel,Probs\n" + "".join(f"9,{i},{label[i]},{confidence[i]}\n" for i in rows))
    else:
        halves = [data / "guesses.pth.tar"]
        ranked = np.argsort(-probability, 1)
        content = {"preds_list": ranked, "probs_list": np.take_along_axis(probability, ranked, 1)}
        torch.save({name: torch.from_numpy(table) for name, table in content.items()}, halves[0])
    assert tool.main(["confidence", "0.8", "--predictions", *map(str, halves), "--data", str(data)]) == 0
    labeled, unlabeled = (data / "indexes" / f"CLIPPseudoLabel0.8{end}.csv" for end in ("", "-Unselected"))
    sure = np.flatnonzero(confidence >= 0.8)
    assert indexes(labeled) == sure.tolist()
    split = read_split(list_images(data / "train"), labeled, unlabeled, use_clip=True)
    assert split.labels[sure].tolist() == label[sure].tolist()
    assert split.clip is not None
    unsure = np.flatnonzero(confidence < 0.8)
    assert split.clip.label[unsure].tolist() == label[unsure].tolist()
    np.testing.assert_array_equal(split.clip.confidence[unsure], confidence[unsure])  # every bit


def test_wrong_predictions_are_said(tool: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, guesses = data / "plain.csv", data / "guesses.csv"
    plain.write_text("Index\n1\n")
    guesses.write_text("Index,PseudoLabel,Probs\n1,0,0.9\n2,0,0.5\n")
    for words, message in (
        ([str(plain)], "has no columns PseudoLabel and Probs"),
        ([str(guesses), str(guesses)], "lists sample 1, which an earlier file"),
        ([str(data / "none.pth.tar")], "There is no CLIP predictions file"),
    ):
        assert tool.main(["confidence", "0.8", "--data", str(data), "--predictions", *words]) == 2
        assert message in capsys.readouterr().err
    for threshold, message in (("1.5", "within 0 and 1"), ("0.95", "No image is labeled"), ("0", "No image is unlab")):
        assert tool.main(["confidence", threshold, "--data", str(data), "--predictions", str(guesses)]) == 2
        assert message in capsys.readouterr().err
    assert not (data / "indexes").exists()


def test_bad_files_are_in_neither_set_and_keep_their_index(
    tool: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "train" / "ant" / "3.jpg").write_bytes(b"")
    bad = next(iter(list_images(data / "train", on_bad="keep").bad))
    assert tool.main(["per-class", "4", "--data", str(data)]) == 0
    assert "left out (1 of them bad files)" in capsys.readouterr().out
    chosen = [*indexes(data / "indexes/train_4perclass_index.csv"),
              *indexes(data / "indexes/train_4perclass_rest_index.csv")]  # fmt: skip
    assert sorted(chosen) == [index for index in range(38) if index != bad]


# --- the same on every machine --------------------------------------------------------------------------------------


def test_roots_locales_and_hash_seeds_do_not_matter(data: Path, tmp_path: Path) -> None:
    """The files' bytes, the split file among them."""
    moved = shutil.copytree(data, tmp_path / "Ünother place" / "d")
    digests = set()
    for root, locale, seed in ((data, "C.UTF-8", "0"), (moved, "C", "1"), (data, "POSIX", "2")):
        out = tmp_path / f"out {locale}"
        command = [sys.executable, "tools/make_splits.py", "percent", "20", "--data", str(root), "--out", str(out)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
        environment |= {"LC_ALL": locale, "PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(tmp_path / locale)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        content = hashlib.sha256()
        for path in sorted(out.iterdir()):
            content.update(path.name.encode() + path.read_bytes())
        digests.add(content.hexdigest())
    assert len(digests) == 1


# --- what is there already ------------------------------------------------------------------------------------------


def test_the_same_again_is_fine_and_other_content_is_kept(
    tool: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = data / "indexes", ["percent", "20", "--data", str(data)]
    assert tool.main(words) == tool.main(words) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    assert tool.main([*words, "--seed", "1"]) == 2
    assert "train_20p_index.csv exists with other content. Replace it with --force" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert tool.main([*words, "--seed", "1", "--force"]) == 0
    changed = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert changed.keys() == before.keys()
    assert changed["train_20p_index.csv"] != before["train_20p_index.csv"]
    read_split(list_images(data / "train"), folder / "train_20p_index.csv", folder / "train_80p_index.csv")


def test_published_files_are_not_replaced(tool: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "indexes").mkdir()
    (data / "indexes" / "train_99p_index.csv").write_text(",Index\n0,3\n")
    assert tool.main(["percent", "1", "--data", str(data)]) == 2
    assert "train_99p_index.csv exists with other content" in capsys.readouterr().err
    assert [path.name for path in (data / "indexes").iterdir()] == ["train_99p_index.csv"]


def test_another_splits_file_is_not_replaced_even_by_force(
    tool: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["percent", "20", "--data", str(data)]) == 0
    assert tool.main(["percent", "80", "--data", str(data), "--force"]) == 2  # writes train_80p and train_20p
    assert "train_80p_index.csv belongs to train_20p_index.split.json" in capsys.readouterr().err


def test_a_failure_leaves_no_split_file_beside_other_files(
    tool: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["percent", "20", "--data", str(data)]
    assert tool.main(words) == 0
    real = tool.replacing

    def failing(path: Path):
        if "80p" in path.name:
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(tool, "replacing", failing)
    assert tool.main([*words, "--seed", "1", "--force"]) == 2
    assert not list((data / "indexes").glob("*.split.json"))
    assert not list((data / "indexes").glob(".*"))


def test_a_folder_below_a_file_is_one_sentence(
    tool: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    for out, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "x" / "y", "Not a directory")):
        assert tool.main(["percent", "20", "--data", str(data), "--out", str(out)]) == 2
        assert capsys.readouterr().err == f"error: Cannot write to {out}: {reason}. Name another folder with --out\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["percent", "0"], "A percentage must lie between 0 and 100 (got 0)"),
        (["percent", "100"], "between 0 and 100 (got 100)"),
        (["per-class", "0"], "At least one label per class"),
        (["per-class", "6"], "Class zébu has 5 usable images, but 6 are wanted"),
    ],
)
def test_wrong_numbers_are_said(
    tool: ModuleType, data: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert tool.main([*words, "--data", str(data)]) == 2
    assert message in capsys.readouterr().err
