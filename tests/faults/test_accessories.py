"""What accompanies a run may fail in any way: the run ends with 0 and a checkpoint, and says so once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter

from debiaspl.build import build_state
from debiaspl.checkpoint_file import read
from debiaspl.distributed import Ranks
from debiaspl.evaluation import bias
from debiaspl.records import Records
from debiaspl.train import main
from pipelines.samples.bad_files import NAMED
from tests.support.runs import REPORTS, STEPS, quick, small_recipe, with_few_steps

EPOCHS = 2


def refusing(*words: object, **more: object) -> None:
    raise OSError(28, os.strerror(28))


def breaking(*words: object, **more: object) -> None:
    raise ValueError("a glyph is missing")


def refuse_later(patch: pytest.MonkeyPatch) -> None:
    """Lets the disk refuse what is written to TensorBoard's file after the first events."""
    write, left = RecordWriter.write, iter(range(3))

    def refusing_later(writer: RecordWriter, event: bytes) -> None:
        if next(left, None) is None:
            refusing()
        write(writer, event)

    patch.setattr(RecordWriter, "write", refusing_later)


def break_accessory(kind: str, out: Path, patch: pytest.MonkeyPatch) -> str:
    """Breaks one accessory of a run in ``out``; returns the name that the warning must give it."""
    out.mkdir()
    match kind:
        case "metrics.jsonl is a folder":
            (out / "metrics.jsonl").mkdir()
            return "metrics.jsonl"
        case "metrics.jsonl cannot grow":
            patch.setattr(Records, "append", refusing)
            return "metrics.jsonl"
        case "tensorboard is a file":
            (out / "tensorboard").touch()
            return "TensorBoard's file"
        case "TensorBoard's file cannot grow":
            refuse_later(patch)
            return "TensorBoard's file"
        case "the picture cannot be drawn":
            patch.setattr(bias, "draw_pseudo_labels", breaking)
            return "pseudo_labels.png"
        case "the picture's place is a folder":
            (out / "pseudo_labels.png").mkdir()
            return "pseudo_labels.png"
        case "report.html is a folder":
            (out / "report.html").mkdir()
            return "report.html"
        case "config.json is a folder":
            (out / "config.json").mkdir()
            return "config.json"
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "metrics.jsonl is a folder",
        "metrics.jsonl cannot grow",
        "tensorboard is a file",
        "TensorBoard's file cannot grow",
        "the picture cannot be drawn",
        "the picture's place is a folder",
        "report.html is a folder",
        "config.json is a folder",
    ],
)
def test_a_broken_accessory_is_said_once_and_the_run_ends_well(few_data, tmp_path, monkeypatch, capsys, kind):
    out = tmp_path / "run"
    name = break_accessory(kind, out, monkeypatch)
    more = REPORTS if kind.startswith(("the picture", "report.html")) else ()
    assert main(quick(few_data, out, *more, epochs=EPOCHS)) == 0
    assert read(out / "last.pt")["progress"]["step"] == EPOCHS * STEPS
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "cannot be written" in line]
    assert [line.split(" cannot")[0] for line in lines] == [name]


def test_a_report_on_the_first_weights_that_is_refused_is_said_once(few_data, tmp_path, capsys):
    out, weights = tmp_path / "run", tmp_path / "weights.pth"
    trunk = build_state(small_recipe(few_data), 10, Ranks()).student.trunk
    torch.save(trunk.state_dict(), weights)
    (out / "init.json").mkdir(parents=True)
    assert main(quick(few_data, out, "--init", str(weights))) == 0
    assert (out / "last.pt").exists()
    assert capsys.readouterr().out.count("init.json cannot be written") == 1


def test_a_list_of_bad_files_that_is_refused_hides_nothing(few_data, tmp_path, capsys):
    """This run ends with 2 whatever becomes of the list, and its message stays one."""
    data, out = with_few_steps(few_data, tmp_path / "data"), tmp_path / "run"
    for path in sorted((data / "train").rglob("*.jpg"))[: NAMED + 5]:
        path.write_bytes(b"no longer a picture")
    (out / "bad_files.txt").mkdir(parents=True)
    assert main(quick(data, out)) == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert said.count("bad_files.txt cannot be written") == 1
    assert f"{NAMED + 5} of" in said


CONSOLES = {
    "stdout closed": ("{run} >&-", {}),
    "stderr closed": ("{run} 2>&-", {}),
    "both closed": ("{run} >&- 2>&-", {}),
    "its reader gone": ("{run} | true; exit ${{PIPESTATUS[0]}}", {}),
    "a full device": ("{run} >/dev/full 2>/dev/full", {}),
    "latin-1": ("{run}", {"PYTHONIOENCODING": "latin-1"}),
    "ASCII": ("{run}", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
}


@pytest.mark.soak
@pytest.mark.parametrize("console", CONSOLES)
def test_no_console_ends_a_run(few_data, tmp_path, console):
    """Processes of their own: what Python makes of its streams when it starts, and when it ends, is the point."""
    shell, environment = CONSOLES[console]
    out = tmp_path / "run"
    run = subprocess.list2cmdline([sys.executable, "-m", "debiaspl.train", *quick(few_data, out, *REPORTS)])
    done = subprocess.run(
        ["bash", "-c", shell.format(run=run)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stdout + done.stderr
    assert read(out / "last.pt")["progress"]["step"] == STEPS
    assert (out / "pseudo_labels.png").stat().st_size > 10_000
    if console in ("latin-1", "ASCII"):
        assert b"max/min" in done.stdout
