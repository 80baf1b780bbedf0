"""Every entry point answers: without docstrings, to a reader that is gone, to Ctrl-C, beside somebody's own folders."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import quick

ROOT = Path(__file__).parents[2]
TOOLS = ["make_demo_data", "make_splits", "make_clip_targets", "import_checkpoint", "convert_imagenet_to_ffcv"]
TOOLS += ["make_wheelhouse"]
ENTRIES = [
    *(
        ["-m", module]
        for module in ("debiaspl.train", "debiaspl.evaluate", "debiaspl.predict", "debiaspl.export", "bench")
    ),
    *([str(ROOT / "tools" / f"{tool}.py")] for tool in TOOLS),
]
NAMES = [words[-1].rpartition("/")[2] for words in ENTRIES]


def environment(*first: Path, **more: str) -> dict[str, str]:
    """This process's environment, with our packages, behind those in ``first``, to be imported from any folder."""
    path = os.pathsep.join(map(str, (*first, ROOT)))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def unread() -> int:
    """A descriptor to write to whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


QUICK = {"debiaspl.train", "debiaspl.evaluate", "debiaspl.predict", "debiaspl.export", "bench", "make_splits.py"}
"""They import no torch, which takes seconds without docstrings: it is compiled anew."""


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(words, id=name, marks=() if name in QUICK else pytest.mark.soak)
        for words, name in zip(ENTRIES, NAMES, strict=True)
    ],
)
def test_help_without_docstrings_for_a_reader_that_is_gone(entry):
    """``python -OO … --help | head -1``, on a terminal that spells ASCII only."""
    stdout = unread()
    try:
        done = subprocess.run(
            [sys.executable, "-OO", *entry, "--help"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(PYTHONIOENCODING="ascii"),
            cwd=ROOT,
            check=False,
        )
    finally:
        os.close(stdout)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_an_interrupt_during_the_imports_is_answered_in_words(entry, tmp_path):
    (tmp_path / "numpy.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, *entry, "--help"],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 128 + signal.SIGINT
    assert re.fullmatch(r"\s*interrupted[:.][^\n]*\n", done.stderr, re.IGNORECASE)


@pytest.mark.parametrize("entry", [["-m", "debiaspl.train"], ["-m", "bench"]], ids=["train", "bench"])
def test_a_folder_called_pipelines_is_not_taken_for_ours(entry, tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/__init__.py").touch()
    done = subprocess.run(
        [sys.executable, *entry, "--help"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: " in done.stdout


@pytest.mark.soak
def test_a_run_and_a_draw_of_a_split_outlive_their_terminal(few_data, tmp_path):
    """Standard error is closed, the reader of standard output gone."""
    out = tmp_path / "run"
    commands = [
        ["-m", "debiaspl.train", *quick(few_data, out)],
        [str(ROOT / "tools/make_splits.py"), "per-class", "3", "--data", str(few_data), "--out", str(tmp_path / "s")],
    ]
    for command in commands:
        stdout = unread()
        try:
            words = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, *command]
            done = subprocess.run(words, stdout=stdout, env=environment(), cwd=ROOT, check=False)
        finally:
            os.close(stdout)
        assert done.returncode == 0, command
    assert (out / "last.pt").exists()
    assert (tmp_path / "s/train_3perclass_index.csv").exists()
