"""A conversion that is killed or interrupted: what is left is resumed to the same bytes, or refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.beton import session
from tests.support.conversion import convert, convert_interrupted, names
from tests.support.images import photo
from tests.support.killed_conversion import assert_kills_do_not_matter


def test_five_kills_and_resumes_end_in_the_same_bytes(data: Path) -> None:
    assert_kills_do_not_matter(data, kills=5)


AT_EACH_CALL = """
import os, sys
from pathlib import Path
from pipelines.beton import convert  # imported once, before the children are
from tools import convert_imagenet_to_ffcv as tool

os.fsync = os.fdatasync = lambda file: None  # the death of a process loses nothing that it has written
folder, arguments = Path(sys.argv[1]), sys.argv[2:]
whole = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}

def convert_in_a_child(calls):
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        left = iter(range(calls))
        def dying(really):
            def call(*words, **more):
                if next(left, None) is None:
                    os._exit(99)
                return really(*words, **more)
            return call
        for name in ("fsync", "fdatasync", "ftruncate", "pwritev", "replace", "unlink"):
            setattr(os, name, dying(getattr(os, name)))
        os._exit(tool.main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

calls, status, between = 0, 99, int(os.environ["BETWEEN"])
while status == 99:
    for path in folder.iterdir():
        path.unlink()
    status = convert_in_a_child(calls)
    assert convert_in_a_child(10**9) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"} == whole, calls
    calls += between
assert status == 0
print(calls)
"""


@pytest.mark.parametrize("between", [9, pytest.param(1, marks=pytest.mark.soak)])
def test_a_death_at_any_call_that_changes_files_can_be_resumed(data: Path, between: int) -> None:
    """The moments that random kills hardly ever meet: while the tables are written and the files get their names."""
    assert convert(data, "--split", "train") == 0
    arguments = [str(data / "ffcv"), "--data", str(data), "--split", "train", "--resume"]
    command = [sys.executable, "-c", AT_EACH_CALL, *arguments]
    environment = os.environ | {"BETWEEN": str(between)}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


@pytest.fixture
def unfinished(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conversion that was interrupted after some commits."""
    assert convert_interrupted(monkeypatch, data, "--split", "train") == 130
    assert names(data / "ffcv") == ["train.beton.partial", "train.beton.partial.journal"]
    return data


def test_resuming_with_other_parameters_is_refused(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (unfinished / "ffcv/train.beton.partial").read_bytes()
    assert convert(unfinished, "--split", "train", "--resume", "--quality", "70") == 2
    assert "quality 90 (now 70)" in capsys.readouterr().err
    photo(30, 30, 1).save(unfinished / "train/ant/new.jpg")
    assert convert(unfinished, "--split", "train", "--resume") == 2
    assert "fingerprint" in capsys.readouterr().err
    assert (unfinished / "ffcv/train.beton.partial").read_bytes() == before
    (unfinished / "train/ant/new.jpg").unlink()
    assert convert(unfinished, "--split", "train", "--resume") == 0
    assert convert(unfinished, "--split", "train", "--verify") == 0
    made = (unfinished / "ffcv/train.beton").stat().st_mtime_ns
    assert convert(unfinished, "--split", "train", "--resume") == 0
    assert (unfinished / "ffcv/train.beton").stat().st_mtime_ns == made


def test_a_torn_journal_loses_its_last_line_only(unfinished: Path) -> None:
    journal = unfinished / "ffcv/train.beton.partial.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    assert convert(unfinished, "--split", "train", "--resume") == 0
    resumed = (unfinished / "ffcv/train.beton").read_bytes()
    assert convert(unfinished, "--split", "train") == 0
    assert (unfinished / "ffcv/train.beton").read_bytes() == resumed


def test_without_resume_it_begins_anew(unfinished: Path) -> None:
    assert convert(unfinished, "--split", "train", "--quality", "70") == 0
    assert convert(unfinished, "--split", "train", "--verify") == 0
    assert not (unfinished / "ffcv/train.beton.partial.journal").exists()


def test_two_conversions_of_one_file_do_not_meet(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "ffcv").mkdir()
    first = session.Session(data / "ffcv/train.beton", 13, {}, resume=False)
    assert convert(data, "--split", "train") == 2
    assert "Another conversion is writing" in capsys.readouterr().err
    first.discard()
    assert names(data / "ffcv") == []
    assert convert(data, "--split", "train") == 0


def test_a_kill_while_the_files_get_their_names(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The .beton has its name already, its companions do not."""
    assert convert(data, "--split", "train") == 0
    folder = data / "ffcv"
    whole = {name: (folder / name).read_bytes() for name in names(folder)}
    for suffix in (".json", ".files.csv"):
        (folder / f"train.beton{suffix}").rename(folder / f"train.beton.partial{suffix}")
    (folder / "train.beton.partial.journal").write_text("of the finished conversion")
    assert convert(data, "--split", "train", "--resume") == 0
    assert {name: (folder / name).read_bytes() for name in names(folder)} == whole
