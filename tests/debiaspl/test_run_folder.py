"""A run's folder: tried before training, held by one run, cleared of what a kill left."""

import os
import subprocess
import sys

import pytest

from debiaspl.run_folder import RunFolder
from pipelines.errors import UserError


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path):
    first = RunFolder(tmp_path / "run")
    path = str(tmp_path / "run")
    code = f"from debiaspl.run_folder import RunFolder; from pathlib import Path; RunFolder(Path({path!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"Another run is writing to {tmp_path / 'run'}: process {os.getpid()} on " in done.stderr
    first.close()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_new_folder_that_stays_empty_is_removed(tmp_path):
    RunFolder(tmp_path / "new").close()
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    RunFolder(tmp_path / "old").close()
    assert (tmp_path / "old").exists()
    folder = RunFolder(tmp_path / "used")
    (tmp_path / "used" / "last.pt").touch()
    folder.close()
    assert (tmp_path / "used" / "last.pt").exists()


def test_a_dead_holder_keeps_nothing(tmp_path):
    code = (
        "import os; from debiaspl.run_folder import RunFolder; from pathlib import Path;"
        f"folder = RunFolder(Path({str(tmp_path)!r})); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    RunFolder(tmp_path).close()


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_its_place_is_named(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written: .*--out"):
        RunFolder(tmp_path / "file" / below)


def test_too_little_room_is_said_before_training(tmp_path):
    folder = RunFolder(tmp_path)
    folder.require_room(1)
    with pytest.raises(UserError, match=r"MiB are free, but the run's checkpoints need"):
        folder.require_room(1 << 62)


def test_what_a_kill_left_half_written_is_cleared(tmp_path):
    stays = {"last.pt", "step-00000003.pt", ".hidden", "metrics.jsonl", ".lock"}
    for name in stays | {".last.pt.0123456789abcdef.pt", ".last.pt.4711.pt", ".config.json.fedcba9876543210.json"}:
        (tmp_path / name).touch()
    RunFolder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == stays


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(victim)
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder(tmp_path / "run")
    assert victim.read_text() == "precious"
