"""Recipe own: what it makes of each layout of folders, which numbers it chooses, and that it says so."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from debiaspl import evaluate, own_data
from debiaspl.checkpoint_file import read
from debiaspl.data import open_training, open_validation
from debiaspl.distributed import Ranks
from debiaspl.folders import read_data
from debiaspl.overrides import assigned, override
from debiaspl.own_account import account
from debiaspl.recipes import find
from debiaspl.train import main
from pipelines.errors import DataError
from pipelines.samples.listing import list_images
from tests.support.conversion import convert
from tests.support.images import photo
from tools import make_splits

COUNTS = {"ant": 10, "bee": 6, "cow": 1}


def pictures(folder: Path, count: int, side: int = 40) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        photo(side + number, side, number).save(folder / f"{number:02}.jpg")


@pytest.fixture
def root(tmp_path):
    """Labeled pictures in class folders alone."""
    for name, count in COUNTS.items():
        pictures(tmp_path / "own" / name, count)
    return tmp_path / "own"


def with_train(root: Path) -> Path:
    """Moves the class folders into train/."""
    (root / "train").mkdir()
    for name in COUNTS:
        (root / name).rename(root / "train" / name)
    return root


def fitted(root: Path, *given: str):
    given = (f"engine.data={root}", "engine.pipeline=torchvision", *given)
    return own_data.fitted(override(find("own"), given), assigned(given))


def said(recipe) -> str:
    split, validation = read_data(recipe)
    return "\n".join(account(recipe, split, validation))


def test_labeled_unlabeled_and_validation_folders(root):
    with_train(root)
    pictures(root / "unlabeled" / "any" / "depth", 20)
    pictures(root / "unlabeled" / "more", 13)
    shutil.copytree(root / "train", root / "val")
    recipe = fitted(root)
    split, validation = read_data(recipe)
    assert (len(split.labeled), len(split.unlabeled), len(validation.indices)) == (17, 33, 17)
    assert split.labels.tolist() == [0] * 10 + [1] * 6 + [2]
    assert recipe.science.lambda_u > 0
    lines = said(recipe)
    for words in ("3, with labeled pictures: ant 10, bee 6, cow 1", f"33 ({root}/unlabeled)", f"17 in {root}/val"):
        assert words in lines


def test_without_unlabeled_pictures_training_is_supervised_and_says_so(root):
    recipe = fitted(with_train(root))
    science = recipe.science
    assert (science.tau, science.lambda_u, science.lambda_cld, science.multi_view, science.mu) == (0, 0, 0, False, 1)
    split, _ = read_data(recipe)
    np.testing.assert_array_equal(split.unlabeled, split.labeled)
    assert "none, so that training is supervised" in said(recipe)


def test_a_split_of_make_splits_is_taken_and_named(root, capsys):
    with_train(root)
    assert make_splits.main(["per-class", "1", "--data", str(root)]) == 0
    recipe = fitted(root, "val=train")
    split, _ = read_data(recipe)
    assert (len(split.labeled), len(split.unlabeled)) == (3, 14)
    assert "3 in " in said(recipe)
    assert "(indexes/train_1perclass_index.csv)" in said(recipe)


def test_a_share_of_each_class_is_held_back_for_validation(root):
    recipe = fitted(with_train(root))
    split, validation = read_data(recipe)
    held = validation.labels[validation.indices]
    assert np.bincount(held, minlength=3).tolist() == [2, 1, 0]  # of a single picture none
    assert not set(validation.indices.tolist()) & set(split.labeled.tolist())
    assert len(split.labeled) + len(held) == sum(COUNTS.values())
    assert (split.labels[validation.indices] == -1).all()
    assert f"3: 20% of the labeled pictures of each class, held back (--set held_back=…, or make {root}/val)" in said(
        recipe
    )
    more = fitted(root, "held_back=0.5")
    assert np.bincount(read_data(more)[1].labels[read_data(more)[1].indices]).tolist() == [5, 3]


def names_held(root: Path) -> set[str]:
    _, validation = read_data(fitted(root))
    return {validation.paths[index] for index in validation.indices.tolist()}


def test_what_is_held_back_depends_on_the_names_alone_and_is_whole(root):
    before = names_held(with_train(root))
    photo(50, 40, 99).save(root / "train/ant/zz.jpg")
    pictures(root / "train/aardvark", 2)
    assert before <= names_held(root) | {"ant/zz.jpg"}
    first = min(before)
    path = root / "train" / first
    path.write_bytes(path.read_bytes()[:-200])  # only decoding finds that
    after = names_held(root)
    assert first not in after
    assert len(after) == len(before) + 1  # and one of the new class
    assert fitted(root).experiment("") == fitted(root).experiment("")


def test_one_picture_a_class_cannot_be_held_back(root):
    for name in COUNTS:
        for path in sorted((root / name).iterdir())[1:]:
            path.unlink()
    with pytest.raises(DataError, match=rf"no class of {root} has a second labeled image.*{root}/val"):
        fitted(root)


def test_class_folders_alone(root, monkeypatch):
    recipe = fitted(root)
    assert (recipe.engine.train, recipe.engine.val) == (".", "")
    split, _ = read_data(recipe)
    assert split.listing.classes == tuple(COUNTS)
    assert len(split.labeled) == 14
    monkeypatch.chdir(root)
    with pytest.raises(DataError, match=rf"{root}/runs/own would lie among the class folders of {root}\. .* --out"):
        fitted(Path())
    here = fitted(Path(), f"out={root.parent / 'run'}")
    assert read_data(here)[0].fingerprint == split.fingerprint
    assert here.experiment(split.fingerprint) == recipe.experiment(split.fingerprint)


def test_ffcv_reads_class_folders_alone_after_the_command_that_its_message_gives(root, capsys):
    pytest.importorskip("numba", reason="the pipeline 'ffcv' needs numba")
    run = ["--recipe", "own", "--pipeline", "ffcv", "--data", str(root), "--out", str(root.parent / "run")]
    run += ["--dry-run"]
    assert main(run) == 2
    command = shlex.split(capsys.readouterr().err.partition("Make it with: ")[2])
    assert command[:4] == ["python", "-m", "debiaspl", "convert"]
    assert command[-4:] == ["--alpha", "white", "--exif", "turn"]
    at = command.index("--data")
    assert convert(Path(command[at + 1]), *command[4:at], *command[at + 2 :]) == 0
    recipe = fitted(root, "engine.pipeline=ffcv")
    split, validation = read_data(recipe)
    open_training(recipe, split, Ranks()).feed.close()
    open_validation(recipe, validation, Ranks()).source.close()
    assert sorted(path.name for path in root.iterdir()) == sorted(COUNTS)


def test_one_class_is_none_to_tell_from_others(tmp_path):
    pictures(tmp_path / "own/train/ant", 3)
    with pytest.raises(DataError, match=r"has one class folder, ant\. A classifier needs two or more"):
        fitted(tmp_path / "own")


def test_folders_that_it_does_not_know_are_refused(root, tmp_path):
    with pytest.raises(DataError, match="It should hold train/ with a folder of pictures for each class"):
        fitted(tmp_path / "none")
    pictures(root / "unlabeled", 3)
    with pytest.raises(DataError, match=rf"has unlabeled/, but no train/.*Make {root}/train"):
        fitted(root)


@pytest.mark.parametrize(("side", "size"), [(20, 32), (40, 32), (50, 64), (110, 96), (300, 224)])
def test_the_size_follows_the_median_short_side_and_all_else_the_size(tmp_path, side, size):
    pictures(tmp_path / "own/a", 2, side)
    pictures(tmp_path / "own/b", 2, side)
    science = fitted(tmp_path / "own").science
    assert science.size == size
    assert science.eval_resize == {32: 32, 64: 64, 96: 110, 224: 256}[size]
    assert science.arch == {32: "resnet8-small", 64: "resnet10-narrow", 96: "resnet10-narrow", 224: "resnet18"}[size]


def test_a_small_set_gets_as_many_steps_and_smaller_batches(root):
    with_train(root)
    pictures(root / "unlabeled", 5)
    recipe = fitted(root)
    science = recipe.science
    assert (science.labeled_batch, science.group, science.mu) == (5, 5, 1)
    assert science.epochs == own_data.STEPS
    split, _ = read_data(recipe)
    assert science.epochs * (len(split.unlabeled) // 5) >= own_data.STEPS


def test_what_is_given_wins(root):
    given = ["size=48", "labeled_batch=4", "epochs=3", "val=ant", "threshold=0.5", "arch=resnet18", "alpha=black"]
    science = fitted(with_train(root), *given[:3], *given[4:]).science
    assert (science.size, science.eval_resize, science.labeled_batch, science.epochs) == (48, 48, 4, 3)
    assert (science.threshold, science.arch, science.alpha, science.group) == (0.5, "resnet18", "black", 4)
    assert fitted(root, "init=weights.pth").science.arch == "resnet50"


def test_a_short_run(root, capsys, tmp_path):
    pictures(root / "dog", 12)
    out = tmp_path / "run"
    run = ["--recipe", "own", "--pipeline", "torchvision", "--data", str(root), "--out", str(out)]
    run += [word for each in ("size=16", "arch=resnet8-small", "epochs=2") for word in ("--set", each)]
    assert main(run) == 0
    text = capsys.readouterr().out
    assert "--set size=…" in text
    assert "4, with labeled pictures: ant 8, bee 5, cow 1, dog 10" in text
    assert evaluate.main([str(out)]) == 0  # on what was held back
    resume = [*run, "--resume", "auto"]
    assert main(resume) == 0
    photo(50, 40, 99).save(root / "dog/zz.jpg")
    capsys.readouterr()
    assert main(resume) == 2
    assert "was trained on another split" in capsys.readouterr().err
    content = read(out / "last.pt")
    assert content["progress"]["last"]["student"]["top1"] >= 0
    assert content["recipe"]["science"]["alpha"] == "white"
    assert list_images(root).classes == ("ant", "bee", "cow", "dog")
