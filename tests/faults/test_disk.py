"""A disk that refuses a checkpoint: training goes on and says why, and the last one ends in one message."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from debiaspl import saving
from debiaspl.checkpoint_file import read
from debiaspl.train import main
from tests.support.runs import STEPS, quick

EPOCHS = 2
FAULTS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "vanished")
SAVES = {"within an epoch": 1, "of an epoch": STEPS, "last": EPOCHS * STEPS}
"""Which save meets the fault → the step it follows."""


def refuse(patch: pytest.MonkeyPatch, out: Path, fault: str, step: int) -> Callable[[], int]:
    """Lets the disk refuse checkpoints of one step, or the folder vanish before it; returns how often it did so."""
    count = [0]
    write, state = Path.write_bytes, {"step": 0}

    def refusing(path: Path, data: bytes) -> int:
        if "last.pt" in path.name and state["step"] == step:
            if fault == "vanished" and count[0]:
                return write(path, data)  # it vanishes once
            count[0] += 1
            if fault != "vanished":
                write(path, data[: len(data) // 2])
                raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)), str(path))
            shutil.rmtree(out)
        return write(path, data)

    from debiaspl.checkpoint_file import Checkpoints

    really = Checkpoints.write

    def noting(checkpoints: Checkpoints, data: bytes, step: int) -> None:
        state["step"] = step
        really(checkpoints, data, step)

    patch.setattr(Checkpoints, "write", noting)
    patch.setattr(Path, "write_bytes", refusing)
    patch.setattr(saving, "_LAST_TRIES", (0.0, 0.0))
    return lambda: count[0]


ALL = [(fault, save) for fault in FAULTS for save in SAVES]
FEW = ALL[::4]
"""Each save, and all faults but one; the rest is long."""


@pytest.mark.parametrize(
    ("fault", "save"), [pytest.param(*case, marks=() if case in FEW else pytest.mark.soak) for case in ALL]
)
def test_a_refused_checkpoint(few_data, tmp_path, monkeypatch, capsys, fault, save):
    out, step = tmp_path / "run", SAVES[save]
    refusals = refuse(monkeypatch, out, fault, step)
    # Every step is saved, or every epoch.
    often = ["--set", f"engine.save_minutes={0 if save == 'within an epoch' else 1000}"]
    status = main(quick(few_data, out, *often, epochs=EPOCHS))
    said = capsys.readouterr()
    assert refusals() >= 1
    assert "Traceback" not in said.out + said.err
    for line in (said.out + said.err).splitlines():
        if "last.pt cannot be written" in line:
            assert fault == "vanished" or os.strerror(getattr(errno, fault)) in line
            assert "MiB are free" in line
            assert "MiB are needed" in line
    if save == "last" and fault != "vanished":
        assert status == 2
        assert said.err.count("error: ") == 1
        assert said.err.splitlines()[-1].startswith(f"error: The checkpoint {out}/last.pt cannot be written")
        assert read(out / "last.pt")["progress"]["step"] < step  # whole, and older
    else:  # a folder that vanished is made again
        assert status == 0, said.err
        assert said.out.count("last.pt cannot be written") >= (fault != "vanished")
        assert read(out / "last.pt")["progress"]["step"] == EPOCHS * STEPS
    assert not [path for path in out.iterdir() if path.name.startswith(".last")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
@pytest.mark.parametrize(("size", "status"), [("200k", 2), ("20m", 0)])
def test_a_small_disk(forked, few_data, tmp_path, size, status):
    """Too small for a checkpoint: said before anything is trained. Large enough: trained."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        ended = forked(quick(few_data, disk / "run"))
        left = {path.name for path in (disk / "run").glob("*")}
    finally:
        subprocess.run(["umount", disk], check=True)
    assert ended.statuses == [status], ended.said
    if status:
        assert ended.said.splitlines()[-1].startswith(f"error: The disk of {disk}/run is full: ")
        assert ended.said.count("error: ") == 1
        assert ended.said.count("\n") == 2  # before it only what the run computes on
        assert not (disk / "run").exists()
    else:
        assert {"last.pt", "metrics.jsonl", "config.json"} <= left


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_disk_that_others_fill_during_the_run(few_data, tmp_path):
    """The disk is filled to its last byte after the first checkpoint: one message, no traceback."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], check=False).returncode:
        pytest.skip("this container may not mount")
    fill = (
        "import sys, time\nfrom debiaspl import saving, trainer\nfrom debiaspl.train import main\n"
        "saving._LAST_TRIES = (0.0,)\nreally = trainer.Trainer._train_step\n"
        "def step(self, groups):\n"
        "    if self.progress.step == 1:\n"
        "        while not self.checkpoint_path.exists(): time.sleep(0.01)\n"
        f"        with open({str(disk / 'others')!r}, 'wb', buffering=0) as file:\n"
        "            try:\n"
        "                while True: file.write(bytes(4096))\n"
        "            except OSError: pass\n"
        "    return really(self, groups)\n"
        "trainer.Trainer._train_step = step\nsys.exit(main(sys.argv[1:]))\n"
    )
    try:
        command = [sys.executable, "-c", fill, *quick(few_data, disk / "run", "--set", "engine.save_minutes=0")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        whole = (disk / "run/last.pt").exists() and read(disk / "run/last.pt")["progress"]["step"]
    finally:
        subprocess.run(["umount", disk], check=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: The checkpoint {disk}/run/last.pt cannot be written: ")
    assert whole == 1  # what was saved before stays
