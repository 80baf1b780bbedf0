"""The published code's numbers, reproduced by the project's objective; and a replay that can fail."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.golden.replay import LIMIT, main, replay

HERE = Path(__file__).parent
OTHERS = {"randaugment_ops.npz", "multi_step.npz"}
"""Replayed elsewhere: pictures of single operations, and whole steps."""
FILES = sorted(path for path in HERE.glob("*.npz") if path.name not in OTHERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_numbers_are_reproduced(path):
    errors = replay(path)
    assert {key.split(".")[1] for key in errors} >= {"loss", "loss_x", "loss_u", "grad_lx", "grad_ls", "qhat"}
    assert max(errors.values()) <= LIMIT


@pytest.mark.parametrize("key", ["0.loss", "0.grad_ls", "1.qhat"])
def test_a_wrong_number_is_noticed(tmp_path, capsys, key):
    with np.load(FILES[0]) as file:
        content = {name: file[name] for name in file.files}
    content[key] = content[key] * 1.0001
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, **content)
    assert main([str(FILES[0]), str(wrong)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [FILES[0].name, "wrong.npz"]
    assert key in lines[1]


def test_replay_runs_as_a_script():
    done = subprocess.run([sys.executable, HERE / "replay.py", FILES[0]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert FILES[0].name in done.stdout
