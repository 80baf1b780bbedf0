"""Saving beside the training: what the disk refuses is told, kept, and tried again."""

import os

import pytest
import torch

from debiaspl import saving
from debiaspl.checkpoint_file import LAST, CheckpointError, Checkpoints, read
from debiaspl.saving import Saver


class Disk(Checkpoints):
    """Checkpoints on a disk that can be full."""

    full = False

    def write(self, data: bytes, step: int) -> None:
        if self.full:
            raise OSError(28, os.strerror(28))
        super().write(data, step)


@pytest.fixture
def disk(tmp_path) -> Disk:
    return Disk(tmp_path / "run", keep=2)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def saver(disk, said, monkeypatch) -> Saver:
    monkeypatch.setattr(saving, "_LAST_TRIES", (0.0, 0.0))
    return Saver(disk, said.append)


def content(step: int) -> dict:
    return {"format": 2, "progress": {"step": step}, "student": {"w": torch.full((3,), float(step))}}


def test_a_checkpoint_is_written_in_the_background(saver, disk, said):
    saver.save(content(1), 1)
    saver.close()
    assert read(disk.last)["progress"]["step"] == 1
    assert said == []


def test_a_refused_one_is_told_and_tried_again_in_time(saver, disk, said, monkeypatch):
    disk.full = True
    saver.save(content(1), 1)
    while not said:
        saver.tick()
    assert "No space left on device" in said[0]
    assert LAST in said[0]
    assert "MiB are free" in said[0]
    disk.full = False
    saver.tick()
    assert not saver.busy  # a minute has not passed
    monkeypatch.setattr(saver, "_retry_at", 0.0)
    saver.tick()
    saver.close()
    assert read(disk.last)["progress"]["step"] == 1
    assert len(said) == 1


def test_a_newer_one_takes_the_place_of_a_refused_one(saver, disk, said):
    disk.full = True
    saver.save(content(1), 1)
    saver.save(content(2), 2)
    while len(said) < 2:
        saver.tick()
    disk.full = False
    saver.save(content(3), 3)
    saver.close()
    assert [read(path)["progress"]["step"] for path in disk.paths()] == [3]
    assert len(said) == 2


def test_the_last_one_is_tried_several_times(saver, disk, said, monkeypatch):
    disk.full = True
    monkeypatch.setattr(saving.time, "sleep", lambda seconds: setattr(disk, "full", len(said) < 2))
    saver.save_last(content(5), 5)
    assert read(disk.last)["progress"]["step"] == 5
    assert len(said) == 2


def test_a_last_one_that_cannot_be_written_ends_in_one_message(saver, disk):
    saver.save_last(content(4), 4)
    disk.full = True
    with pytest.raises(CheckpointError, match=r"cannot be written: No space.*that was written is .*last\.pt"):
        saver.save_last(content(5), 5)
    assert read(disk.last)["progress"]["step"] == 4
