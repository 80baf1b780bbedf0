"""``python -m bench doctor``: its status, what it names, and the sample of a user's own images."""

import json
from collections import namedtuple
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from bench import samples
from bench.__main__ import main
from bench.arguments import STEP
from bench.doctor import ceilings, machine, parts
from bench.doctor.ceilings import Ceiling, Ceilings
from pipelines.errors import DataError, UserError
from pipelines.samples.listing import list_images

Usage = namedtuple("Usage", "total used free")


def pictures(root: Path, count: int, classes: int = 3) -> Path:
    for number in range(count):
        folder = root / "train" / f"class <{number % classes}>"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number % 5, 16), (number, 0, 0)).save(folder / f"{number}.jpg")
    return root


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceilings that need no measuring."""
    rows = [Ceiling("read, from memory", 1000.0, "MB/s"), Ceiling("read, from the disk", float("nan"), "MB/s", "tmpfs")]
    found = Ceilings(rows, {"torchvision": 100.0}, {"float32": 1e11, "bfloat16": 1e9})
    monkeypatch.setattr(ceilings, "measure", lambda listing, root, threads: found)


def test_a_machine_that_can_train(measured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pictures(tmp_path / "data", 60)
    words = ["doctor", "--recipe", "demo", "--data", str(data), "--runs", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "A faster loader would not help" in shown
    assert "tmpfs" in shown
    (path,) = (tmp_path / "out").glob("doctor_*.json")
    report = json.loads(path.read_text())
    assert {"cores", "memory", "open files", "/dev/shm"} <= {fact["what"] for fact in report["machine_facts"]}
    assert not any(fact["problem"] for fact in report["machine_facts"])


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (("available_memory", lambda: 2**30), "memory: 1.0 GiB may be taken"),
        (("resource.getrlimit", lambda kind: (64, 1024)), "ulimit -n 1024 allows more"),
        (("shutil.disk_usage", lambda path: Usage(2**40, 2**40, 0)), "make room, or name another folder with --runs"),
    ],
)
def test_what_would_make_training_fail_is_said_and_is_the_status(
    breaks: tuple[str, object],
    words: str,
    measured: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"bench.doctor.machine.{breaks[0]}", breaks[1])
    data = pictures(tmp_path / "data", 48)
    assert main(["doctor", "--data", str(data), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "TRAINING WOULD FAIL" in said
    assert words in said


def test_a_gpu_that_torch_cannot_use_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(wanted: str) -> str:
        raise UserError("This machine has a GPU (nvidia0) that torch cannot use")

    monkeypatch.setattr(machine, "find_device", refuses)
    assert "nvidia0" in machine._device().problem


def test_ranks_on_gpus_need_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(2**24, 0, 2**24))
    assert "--shm-size" in machine._shared_memory(2, tmp_path).problem
    assert machine._shared_memory(1, tmp_path).problem == ""
    assert machine._shared_memory(2, tmp_path / "none").problem


def test_missing_parts_name_their_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {part.name for part in parts.missing()}
    monkeypatch.setattr(parts, "is_installed", lambda name: False)
    absent = {part.name: part.command for part in parts.missing()}
    assert {part.name for part in parts.PARTS} <= absent.keys()
    assert absent["DALI"] == "pip install -e '.[dali]'"
    assert "torchvision" not in everything


def test_a_sample_is_whole_steps_of_all_classes_and_only_linked(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", 110)
    (data / "train/class <0>/broken.jpg").write_bytes(b"no picture")
    with ExitStack() as opened:
        root = samples.root_of(data, tmp_path, 200, opened)
        listing = list_images(root / "train")
        assert len(listing) == 96
        assert len(listing.classes) == 3
        assert not listing.bad
        assert all(listing.path(index).is_symlink() for index in range(96))
    assert not root.exists()
    assert sorted(path.name for path in data.iterdir()) == ["train"]
    with ExitStack() as opened, pytest.raises(DataError, match="has 20 images"):
        samples.root_of(pictures(tmp_path / "few", 20) / "train", tmp_path, 200, opened)
    with ExitStack() as opened, pytest.raises(DataError, match="has 0 images"):
        samples.root_of(tmp_path / "nowhere", tmp_path, 200, opened)


def test_a_loader_is_timed_once_all_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    class Feed:
        def __iter__(self) -> Iterator[int]:
            passes.append(len(passes))
            return iter(range(5))

        def close(self) -> None: ...

    monkeypatch.setattr(ceilings, "open_feed", lambda *_: Feed())
    monkeypatch.setattr(ceilings, "rate", lambda work: (len(passes), work()))
    rates, absent = ceilings._loaders(list_images(pictures(tmp_path, 3) / "train"), tmp_path, 1)
    assert absent == {}
    assert [before for before, _ in rates.values()] == [1, 3, 5, 7]
    assert {images for _, images in rates.values()} == {5 * STEP}


@pytest.mark.soak
def test_ceilings_of_this_machine(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", 48)
    found = ceilings.measure(list_images(data / "train"), data, 2)
    assert found.loaders["torchvision"] > 0
    assert {row.what for row in found.rows} >= {"read, from memory", "decode JPEGs", "copy in memory"}
