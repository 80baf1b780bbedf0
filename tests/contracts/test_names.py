"""Names that a terminal, a spreadsheet or a library would take for its own train, are shown, and change nothing."""

import csv
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.names import readable
from tests.support.forked_runs import Ended, ForkedRuns
from tests.support.runs import run, with_few_steps, without_speed

UNICODE = "[bold] $x^$ \x1b[31m\x07\n=é"
ODD = UNICODE + os.fsdecode(b"\xff")
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # a bar's carriage returns are its own


def broken(folder: Path) -> None:
    """Spoils one image that is unlabeled, under either name."""
    path = sorted(folder.iterdir())[-1]
    path.write_bytes(path.read_bytes()[:150])


@pytest.fixture(scope="module")
def plain(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain") / "data"
    with_few_steps(demo_data, root, steps=12)
    broken(sorted((root / "train").iterdir())[3])
    return root


@pytest.fixture(scope="module")
def odd(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images in the same order, below a folder, in classes and under file names that are all odd."""
    root = tmp_path_factory.mktemp("odd") / "[" / f"old] data{ODD}"  # rich takes [/old] for the end of a style
    shutil.copytree(plain, root)
    for folder in [*(root / "train").iterdir(), *(root / "val").iterdir()]:
        for path in list(folder.iterdir()):
            path.rename(folder / f"{path.stem}{ODD}.jpg")
        folder.rename(folder.with_name(f"{folder.name}{ODD}"))
    done = run([sys.executable, "tools/convert_imagenet_to_ffcv.py", "--data", str(root), "--check", "decode"])
    assert done.returncode == 0, done.stderr
    assert_clean(done.stdout, done.stderr)
    return root


def assert_clean(*texts: str) -> None:
    for text in texts:
        assert not CONTROL.search(text.encode(errors="surrogateescape")), text
        assert "\n=é" not in text


def train(forked: ForkedRuns, data: Path, pipeline: str, out: Path) -> Ended:
    words = ["--recipe", "demo", "--pipeline", pipeline, "--data", str(data), "--out", str(out)]
    sets = ["science.epochs=1", "science.warmup_epochs=0", "engine.device=cpu", "engine.threads=2"]
    sets += ["science.mu=2", "engine.bad_files=0.1", "engine.log_every=1"]
    sets = [word for assignment in sets for word in ("--set", assignment)]
    return forked([*words, *sets])


@pytest.fixture(scope="module")
def expected(forked: ForkedRuns, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    out = tmp_path_factory.mktemp("expected")
    assert train(forked, plain, "torchvision", out).statuses == [0]
    return without_speed(out / "metrics.jsonl")


def test_training_shows_names_readably_and_is_the_same(forked, pipeline, odd, expected, tmp_path):
    out = tmp_path / f"run{UNICODE}"  # TensorBoard writes below no other name
    done = train(forked, odd, pipeline, out)
    assert done.statuses == [0], done.said
    assert_clean(done.said)
    (bad,) = (line for line in done.said.splitlines() if line.startswith("cannot be decoded, replaced: "))
    path = max((odd / "train").glob("3_*/*"))
    assert f": {readable(path)}: " in bad
    assert any(line.endswith(readable(out / "last.pt")) for line in done.said.splitlines())
    assert without_speed(out / "metrics.jsonl") == expected
    assert (out / "pseudo_labels.png").exists()
    for name in ("metrics.jsonl", "config.json"):
        assert_clean((out / name).read_text(encoding="utf-8"))
    # TensorBoard's own reader takes brackets in a folder's name for a pattern.
    board = EventAccumulator(str(shutil.copytree(out / "tensorboard", tmp_path / "tensorboard")))
    board.Reload()
    (event,) = board.Tensors("data/bad_files/text_summary")
    (shown,) = event.tensor_proto.string_val[0].decode().splitlines()
    assert shown.startswith(f"    {readable(path)}: ")


def test_the_converters_list_has_readable_cells(odd):
    content = (odd / "ffcv/train.beton.files.csv").read_bytes()
    assert_clean(content.decode("utf-8"))
    (row,) = csv.DictReader(content.decode("utf-8").splitlines())
    assert row["path"] == readable(max((odd / "train").glob("3_*/*")).relative_to(odd / "train"), "csv")


@pytest.mark.parametrize(
    "words",
    [
        ["tools/convert_imagenet_to_ffcv.py", "--verify", "--data"],
        ["tools/make_splits.py", "per-class", "2", "--name", "two", "--data"],
        ["tools/make_splits.py", "per-class", "200", "--data"],
        pytest.param(
            ["-m", "debiaspl.train", "--recipe", "demo", "--pipeline", "torchvision", "--dry-run",
             "--set", "engine.bad_files=0.1", "--set", "engine.device=cpu", "--data"],
            marks=pytest.mark.soak,
        ),
        pytest.param(
            ["-m", "debiaspl.train", "--recipe", "demo", "--pipeline", "torchvision", "--strict",
             "--set", "engine.device=cpu", "--data"],
            marks=pytest.mark.soak,
        ),
    ],
    ids=lambda words: " ".join(words[:3]),
)  # fmt: skip
def test_what_the_tools_say_is_clean(words, odd, tmp_path):
    done = run([sys.executable, *words, str(odd)])
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert_clean(done.stdout, done.stderr)
    assert readable(ODD) in done.stdout + done.stderr


def test_a_weights_file_below_a_folder_with_brackets(tmp_path):
    from debiaspl.models.trunks import build_trunk

    path = tmp_path / "[" / f"old]{ODD}" / "w.pth"
    path.parent.mkdir(parents=True)
    torch.save(build_trunk("resnet8-small", 16)[0].state_dict(), path)
    command = [sys.executable, "tools/import_checkpoint.py", str(path), "--arch", "resnet8-small", "--size", "16"]
    done = run(command, COLUMNS="300")
    assert done.returncode == 0, done.stderr
    assert_clean(done.stdout)
    assert readable(path) in done.stdout
