"""True classes are out of reach of training: with CLIP's labels, wrong truth changes no bit of what is trained."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from debiaspl import folders as trainer_data
from debiaspl.build import build_run
from debiaspl.checkpoint_file import read
from debiaspl.distributed import Ranks
from debiaspl.evaluation import bias
from debiaspl.evaluation.truth import true_labels
from debiaspl.overrides import override
from debiaspl.recipes import find
from debiaspl.trainer import Trainer
from pipelines.samples.listing import UNKNOWN, Listing, list_images
from pipelines.samples.split import Split

CLIP = ("CLIPPseudoLabel0.95.csv", "CLIPPseudoLabel0.95-Unselected.csv")
PLAIN = ("labeled.csv", "unlabeled.csv")
MOST = 160
"""Lines of an index file, so that an epoch is short."""
Plant = Callable[[Listing], Listing]


@pytest.fixture(scope="module")
def data(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data with index files as CLIP would give them: 4 of 5 guesses are right, every third is confident."""
    root = tmp_path_factory.mktemp("leak") / "demo"
    shutil.copytree(demo_data, root)
    truth = list_images(root / "train").labels
    rng = np.random.default_rng(0)
    guess = np.where(rng.random(len(truth)) < 0.8, truth, rng.integers(0, 10, len(truth)))
    confidence = np.where(rng.random(len(truth)) < 1 / 3, 0.97, rng.uniform(0.2, 0.94, len(truth)))
    for name, chosen in zip(CLIP, (confidence > 0.95, confidence <= 0.95), strict=True):
        rows = [f"{i},{guess[i]},{confidence[i]:.4f}" for i in np.flatnonzero(chosen)]
        (root / "indexes" / name).write_text("\n".join(["Index,PseudoLabel,Probs", *rows[:MOST]]) + "\n")
    path = root / "indexes" / PLAIN[1]
    path.write_text("\n".join(path.read_text().splitlines()[:MOST]) + "\n")
    return root


def train(data: Path, out: Path, files: tuple[str, str], *sets: str) -> Split:
    """An epoch on the CPU; returns the split that it saw."""
    labeled, unlabeled = files
    recipe = override(
        find("demo"),
        [
            f"engine.data={data}", "engine.pipeline=torchvision", "engine.threads=2", "engine.device=cpu",
            f"engine.labeled_csv=indexes/{labeled}", f"engine.unlabeled_csv=indexes/{unlabeled}",
            "science.epochs=1", "science.warmup_epochs=0", "science.mu=3", "science.clip_gate=0.3",
            "science.threshold=0.3", "engine.reports=0", *sets,
        ],
    )  # fmt: skip
    split, validation = trainer_data.read_data(recipe)
    trainer = Trainer(build_run(recipe, split, validation, Ranks()), out)
    try:
        assert trainer.fit()
    finally:
        trainer.close()
    return split


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All that training has changed."""
    content = read(checkpoint)
    found = {f"{part}.{name}": value for part in ("student", "teacher") for name, value in content[part].items()}
    for number, slot in content["optimizer"]["state"].items():
        found[f"momentum.{number}"] = slot["momentum_buffer"]
    return found | {"phat": content["phat"], "pseudo_labels": content["pseudo_labels"]}


def differing(mine: Path, theirs: Path) -> list[str]:
    a, b = tensors(mine / "last.pt"), tensors(theirs / "last.pt")
    assert a.keys() == b.keys()
    return [name for name, value in a.items() if not torch.equal(value, b[name])]


def plant(monkeypatch: pytest.MonkeyPatch, planted: Plant) -> None:
    """Wrong truth in every listing of a train folder that the trainer makes."""

    def listed(root: Path, **how: object) -> Listing:
        listing = list_images(root, **how)
        return planted(listing) if root.name == "train" else listing

    monkeypatch.setattr(trainer_data, "list_images", listed)


def garbage(listing: Listing) -> Listing:
    return replace(listing, labels=np.random.default_rng(1).permutation(listing.labels))


def other_folders(source: Path, target: Path) -> None:
    """The same images in the same order and the same class names, but other images in each class."""
    listing = list_images(source / "train")
    share = np.linspace(0, len(listing.classes), len(listing), endpoint=False).astype(int)
    for number, label in enumerate(share):
        folder = target / "train" / listing.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(listing.path(number), folder / f"{number:05}.jpg")
    for name in ("val", "indexes"):
        shutil.copytree(source / name, target / name)


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zero-shot run on the data as it is."""
    out = tmp_path_factory.mktemp("honest")
    train(data, out, CLIP, "science.clip=true")
    return out


def test_zero_shot_training_never_sees_the_listings_labels(
    data: Path, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, garbage)
    train(data, tmp_path, CLIP, "science.clip=true")
    assert differing(tmp_path, honest) == []


def test_zero_shot_training_never_sees_the_folders(data: Path, honest: Path, tmp_path: Path) -> None:
    other_folders(data, tmp_path / "moved")
    split = train(tmp_path / "moved", tmp_path / "run", CLIP, "science.clip=true")
    assert differing(tmp_path / "run", honest) == []
    truth = list_images(data / "train").labels
    assert (true_labels(split.listing) != truth).mean() > 0.3  # the truth that evaluation sees is another one


def test_with_true_labels_they_do_matter(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planted above would be noticed if anything looked at it."""
    train(data, tmp_path / "honest", PLAIN)
    plant(monkeypatch, garbage)
    train(data, tmp_path / "planted", PLAIN)
    assert differing(tmp_path / "planted", tmp_path / "honest") != []


@pytest.mark.parametrize("files", [CLIP, PLAIN])
def test_a_split_has_no_labels_but_its_own(data: Path, files: tuple[str, str]) -> None:
    labeled, unlabeled = files
    csvs = [f"engine.labeled_csv=indexes/{labeled}", f"engine.unlabeled_csv=indexes/{unlabeled}"]
    split, _ = trainer_data.read_data(override(find("demo"), [f"engine.data={data}", *csvs]))
    assert set(split.listing.labels.tolist()) == {UNKNOWN}
    others = np.setdiff1d(split.listing.indices, split.labeled)
    assert set(split.labels[others].tolist()) == {UNKNOWN}


def test_evaluation_reads_the_truth_off_the_folders(data: Path) -> None:
    listing = list_images(data / "train")
    assert np.array_equal(true_labels(listing.without_labels()), listing.labels)
    unlabeled = np.arange(30, len(listing))
    split = Split(listing, np.arange(30), unlabeled, np.full(len(listing), UNKNOWN), None)
    assert bias.true_counts(split).tolist() == np.bincount(listing.labels[30:], minlength=10).tolist()
