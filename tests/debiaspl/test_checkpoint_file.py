"""Checkpoint files: no damage is loaded, none of the older ones is lost before a new one is there."""

import random
import zipfile

import pytest
import torch

from debiaspl.checkpoint_file import LAST, SET_ASIDE, CheckpointError, Checkpoints, packed, read, unpacked


def content(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    weights = {"w": torch.randn(7, 5, generator=generator), "n": torch.tensor(step)}
    return {"format": 2, "progress": {"step": step}, "student": weights}


def test_torch_and_zip_read_the_file_too(tmp_path):
    path = tmp_path / LAST
    path.write_bytes(packed(content(3)))
    assert torch.equal(torch.load(path, weights_only=True)["student"]["w"], content(3)["student"]["w"])
    assert zipfile.ZipFile(path).testzip() is None
    assert read(path)["progress"] == {"step": 3}


def test_no_flipped_bit_is_loaded():
    data = packed(content(3))
    moments = random.Random(0)
    for _ in range(1000):
        bit = moments.randrange(8 * len(data))
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointError, match=r"a\.pt"):
            unpacked(bytes(damaged), "a.pt")


def test_no_cut_or_lengthened_file_is_loaded():
    data = packed(content(3))
    for damaged in (b"", data[:1], data[:-1], data[: len(data) // 2], data + b"\0", data[1:], bytes(len(data))):
        with pytest.raises(CheckpointError):
            unpacked(damaged, "a.pt")


def test_a_file_of_the_version_before_is_checked_by_its_archive(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({**content(3), "format": 1}, path)
    assert read(path)["format"] == 1
    data = bytearray(path.read_bytes())
    at = data.index(content(3)["student"]["w"].numpy().tobytes())
    data[at + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        read(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "foreign", "no dict", "empty"])
def test_other_files_are_said_to_be_what_they_are(kind, tmp_path):
    path = tmp_path / "x.pt"
    if kind == "folder":
        path.mkdir()
    elif kind == "foreign":
        torch.save({"model": torch.zeros(1)}, path)
    elif kind == "no dict":
        torch.save([1], path)
    elif kind == "empty":
        path.touch()
    words = {
        "missing": "no checkpoint",
        "folder": "is a folder",
        "foreign": "not a checkpoint",
        "no dict": "not a chec",
    }
    with pytest.raises(CheckpointError, match=words.get(kind, "cannot be read")):
        read(path)


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_older_checkpoints_stay_as_many_as_asked_for(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in range(1, 6):
        checkpoints.write(packed(content(step)), step)
    assert names(tmp_path) == {LAST, "step-00000004.pt", "step-00000003.pt"}
    assert [read(path)["progress"]["step"] for path in checkpoints.paths()] == [5, 4, 3]


def test_a_single_one_is_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in range(3):
        checkpoints.write(packed(content(step)), step)
    assert names(tmp_path) == {LAST}


def test_the_newest_whole_one_is_taken_and_the_damaged_one_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.write(packed(content(step)), step)
    damaged = bytearray((tmp_path / LAST).read_bytes())
    damaged[100] ^= 4
    (tmp_path / LAST).write_bytes(damaged)

    again = Checkpoints(tmp_path, keep=2)
    path, found, errors = again.newest_whole()
    assert (path.name, found["progress"]["step"]) == ("step-00000001.pt", 1)
    assert len(errors) == 1
    assert LAST in str(errors[0])
    assert (tmp_path / LAST).read_bytes() == damaged

    again.write(packed(content(2)), 2)
    assert names(tmp_path) == {LAST, "step-00000001.pt", SET_ASIDE}
    assert (tmp_path / SET_ASIDE).read_bytes() == damaged


def test_a_whole_one_of_another_process_becomes_an_older_one(tmp_path):
    Checkpoints(tmp_path, keep=2).write(packed(content(7)), 7)
    Checkpoints(tmp_path, keep=2).write(packed(content(9)), 9)
    assert names(tmp_path) == {LAST, "step-00000007.pt"}


def test_none_is_whole(tmp_path):
    with pytest.raises(CheckpointError, match="there is none"):
        Checkpoints(tmp_path, keep=2).newest_whole()
    (tmp_path / LAST).write_bytes(b"no")
    with pytest.raises(CheckpointError, match=LAST):
        Checkpoints(tmp_path, keep=2).newest_whole()


def test_a_refused_write_leaves_all_as_it_was(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.write(packed(content(1)), 1)
    before = (tmp_path / LAST).read_bytes()
    monkeypatch.setattr("debiaspl.checkpoint_file.replacing", refusing(times=9))
    with pytest.raises(OSError, match="No space"):
        checkpoints.write(packed(content(2)), 2)
    assert names(tmp_path) == {LAST}
    assert (tmp_path / LAST).read_bytes() == before


def test_older_ones_give_way_where_the_disk_is_full(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.write(packed(content(step)), step)
    monkeypatch.setattr("debiaspl.checkpoint_file.replacing", refusing(times=1))
    checkpoints.write(packed(content(4)), 4)
    assert names(tmp_path) == {LAST, "step-00000003.pt"}


def refusing(times: int):
    """``replacing`` on a disk that is full for the first ``times`` writes."""
    from pipelines.files import replacing

    left = [times]

    def refuse(path):
        if left[0]:
            left[0] -= 1
            raise OSError(28, "No space left on device")
        return replacing(path)

    return refuse
