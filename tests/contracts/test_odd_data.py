"""Training on data as it is found: odd and broken files, and unlabeled images in a folder without classes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from debiaspl.build import build_run
from debiaspl.data import read_data
from debiaspl.distributed import Ranks
from debiaspl.dry_run import missing_files
from debiaspl.overrides import override
from debiaspl.recipes import find
from debiaspl.trainer import Trainer
from pipelines.errors import DataError
from tests.support.conversion import convert
from tests.support.odd_files import ODD, listed
from tests.support.runs import without_speed

FLAT = 120
"""Unlabeled images in a folder of their own, four steps of them."""


def recipe(root: Path, pipeline: str, *more: str):
    settings = [
        f"engine.data={root}", f"engine.pipeline={pipeline}", "engine.threads=2", "engine.device=cpu",
        "engine.eval_batch=50", "science.epochs=1", "science.warmup_epochs=0", "engine.log_every=1",
    ]  # fmt: skip
    return override(find("demo"), [*settings, *more])


def train(one, out: Path) -> tuple[Trainer, list[dict]]:
    split, validation = read_data(one)
    trainer = Trainer(build_run(one, split, validation, Ranks()), out)
    try:
        assert trainer.fit()
    finally:
        trainer.close()
    return trainer, without_speed(out / "metrics.jsonl")


@pytest.fixture(scope="module")
def odd_data(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, with one file of each odd kind in a class folder, all of which are unlabeled samples; converted."""
    root = tmp_path_factory.mktemp("odd") / "data"
    shutil.copytree(demo_data, root)
    folder = sorted((root / "train").iterdir())[3]
    for name, (make, _, _) in ODD.items():
        if name != "forbidden.jpg":  # the tests may run as root, whom nothing is forbidden
            make(folder / name)
    count = sum(1 for path in (root / "train").rglob("*") if not path.is_dir())
    rng = np.random.default_rng(0)
    odd = [at for at, path in enumerate(sorted((root / "train").rglob("*.*"))) if path.name in ODD]
    ordinary = rng.permutation(np.setdiff1d(np.arange(count), odd))
    science = find("demo").science
    rest = 3 * science.labeled_batch * science.mu - len(odd)  # three whole steps: none of them is dropped
    for name, index in {"labeled": ordinary[:20], "unlabeled": [*odd, *ordinary[20 : 20 + rest]]}.items():
        (root / f"indexes/{name}.csv").write_text("Index\n" + "".join(f"{i}\n" for i in sorted(index)))
    for path in (root / "indexes").glob("*.split.json"):
        path.unlink()
    assert convert(root) == 0
    return root


def test_an_epoch_over_all_kinds_of_odd_files_names_the_broken_ones(pipeline, odd_data, tmp_path, capsys):
    _, rows = train(recipe(odd_data, pipeline, "engine.bad_files=0.1"), tmp_path / "run")
    statuses = listed(odd_data / "ffcv/train.beton")
    broken = {path for path, (status, _) in statuses.items() if status == "left out"}
    assert {Path(path).name for path in statuses} == set(ODD) - {"forbidden.jpg"}
    assert 6 <= len(broken) < len(statuses)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cannot be decoded, replaced: ")]
    assert sorted(line.split(": ")[1] for line in said) == sorted(str(odd_data / "train" / path) for path in broken)
    assert rows[-1]["data/bad_files"] == len(broken)
    assert all(np.isfinite(value) for row in rows for value in row.values())
    board = EventAccumulator(str(tmp_path / "run/tensorboard"))
    board.Reload()
    (event,) = board.Tensors("data/bad_files/text_summary")
    shown = event.tensor_proto.string_val[0].decode().splitlines()
    assert sorted(line.strip().split(": ")[0] for line in shown) == sorted(line.split(": ")[1] for line in said)


@pytest.fixture(scope="module")
def flat_data(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with its unlabeled samples taken out of train/ into a folder without classes, at several depths."""
    root = tmp_path_factory.mktemp("flat") / "data"
    shutil.copytree(demo_data, root)
    split, _ = read_data(recipe(root, "torchvision"))
    for index in split.unlabeled[FLAT:]:
        split.listing.path(int(index)).unlink()
    for number, index in enumerate(split.unlabeled[:FLAT]):
        place = root / "pool/extra" / ("deep/er" if number % 3 else "") / f"{number * 7919 % 1000:03}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        split.listing.path(int(index)).rename(place)
    for path in (root / "indexes").iterdir():
        path.unlink()
    left = sorted((root / "train").rglob("*.jpg"))
    (root / "indexes/labeled.csv").write_text("Index\n" + "".join(f"{i}\n" for i in range(len(left))))
    assert convert(root) == 0
    assert convert(root / "pool", "--split", "extra", "--flat") == 0
    return root


def test_unlabeled_images_may_lie_in_a_folder_of_their_own(pipeline, flat_data, tmp_path):
    flat = ("engine.labeled_csv=indexes/labeled.csv", "engine.unlabeled=pool/extra")
    one = recipe(flat_data, pipeline, *flat)
    assert missing_files(one) == []
    if pipeline == "ffcv":
        elsewhere = override(one, ["engine.unlabeled_beton=ffcv/none.beton"])
        assert missing_files(elsewhere) == [str(flat_data / "ffcv/none.beton")]
    split, _ = read_data(one)
    assert len(split.unlabeled) == sum(1 for _ in (flat_data / "pool/extra").rglob("*.jpg"))
    assert split.unlabeled_listing.paths[0].startswith(("0", "deep"))
    trainer, rows = train(one, tmp_path / "run")
    reference = train(recipe(flat_data, "torchvision", *flat), tmp_path / "reference")[1]
    assert rows == reference
    state = trainer._state
    assert (state.phat - 0.1).abs().max() > 1e-4
    assert (tmp_path / "run/pseudo_labels.png").exists()


def test_another_unlabeled_image_is_another_experiment(flat_data, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(flat_data, root)
    one = recipe(root, "torchvision", "engine.labeled_csv=indexes/labeled.csv", "engine.unlabeled=pool/extra")
    before, _ = read_data(one)
    shutil.copy(next((root / "pool/extra").glob("*.jpg")), root / "pool/extra/zz.jpg")
    after, _ = read_data(one)
    assert before.fingerprint != after.fingerprint
    with pytest.raises(DataError, match=r"There is no data folder .*nowhere"):
        read_data(override(one, ["engine.unlabeled=nowhere"]))


def test_clip_targets_of_a_folder_come_from_a_file(flat_data):
    one = recipe(
        flat_data, "torchvision", "engine.labeled_csv=indexes/labeled.csv", "engine.unlabeled=pool/extra",
        "science.clip=True",
    )  # fmt: skip
    with pytest.raises(DataError, match=r"(?s)brings none.*engine\.clip_file"):
        read_data(one)
    count = len(read_data(override(one, ["science.clip=False"]))[0].unlabeled)
    ranked = torch.stack([torch.arange(count) % 10, (torch.arange(count) + 1) % 10], 1)
    table = {"preds_list": ranked, "probs_list": torch.tensor([[0.75, 0.25]]).expand(count, 2)}
    torch.save(table, flat_data / "clip.pth.tar")
    split, _ = read_data(override(one, ["engine.clip_file=clip.pth.tar"]))
    assert split.clip is not None
    assert split.clip.label.tolist() == [at % 10 for at in range(count)]
