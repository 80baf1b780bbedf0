"""Cases that users reported, one of each kind: each ends as it should, with a checkpoint or with one message."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from debiaspl.build import build_state
from debiaspl.checkpoint_file import read
from debiaspl.distributed import Ranks
from debiaspl.run_folder import RunFolder
from debiaspl.train import main
from tests.support.runs import REPORTS, STEPS, arguments, quick, run, small_recipe

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, "-m", "debiaspl.train"]
needs_another_user = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root becomes another user, with setpriv"
)


def test_an_epochs_work_survives_a_damaged_validation_image(few_data, tmp_path, capsys):
    """Once the image is mended, what was missing is the evaluation alone."""
    data = tmp_path / "data"
    shutil.copytree(few_data, data)
    image = min((data / "val").rglob("*.jpg"))
    whole = image.read_bytes()
    image.write_bytes(whole[:-40])
    words = quick(data, tmp_path / "run")
    assert main(words) == 2
    assert image.name in capsys.readouterr().err
    saved = read(tmp_path / "run/last.pt")
    assert saved["progress"]["step"] == STEPS
    image.write_bytes(whole)
    assert main([*words, "--resume", "auto"]) == 0
    after = read(tmp_path / "run/last.pt")
    assert all(torch.equal(value, after["student"][name]) for name, value in saved["student"].items())
    assert after["progress"]["last"]["student"]["epoch"] == 1


@pytest.mark.parametrize("name", ["3_$x^$", "3_[red]", "3_\x1b[31m", "3_<b>&", "3_\udcff"])
def test_a_class_may_have_any_name(few_data, tmp_path, capsys, name):
    data = tmp_path / "data"
    shutil.copytree(few_data, data)
    for folder in ("train", "val"):
        (data / folder / "3_three").rename(data / folder / name)
    out = tmp_path / "run"
    assert main(quick(data, out, *REPORTS)) == 0
    said = capsys.readouterr()
    assert "cannot be written" not in said.out + said.err
    assert "\x1b[31m" not in said.out + said.err
    with Image.open(out / "pseudo_labels.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    assert (out / "last.pt").exists()


def test_a_folder_in_which_another_run_writes_is_refused(few_data, tmp_path, capsys):
    held = RunFolder(tmp_path / "run")  # flock tells two openings of one process apart
    try:
        assert main(quick(few_data, tmp_path / "run")) == 2
    finally:
        held.close()
    said = capsys.readouterr().err
    assert said.startswith(f"error: Another run is writing to {tmp_path / 'run'}: process {os.getpid()} on ")
    assert not (tmp_path / "run/last.pt").exists()


@pytest.mark.parametrize("below", ["", "x"])
def test_a_run_folder_that_cannot_be_made_is_said_before_training(few_data, tmp_path, capsys, below):
    (tmp_path / "file").touch()
    assert main(quick(few_data, tmp_path / "file" / below)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(tmp_path / "file" / below) in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("left_over", "named"), [({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR"), ({"WORLD_SIZE": "two"}, "WORLD_SIZE")]
)
def test_a_launchers_variables_without_a_launcher_are_named(few_data, tmp_path, monkeypatch, capsys, left_over, named):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in left_over.items():
        monkeypatch.setenv(name, value)
    assert main(quick(few_data, tmp_path / "run")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert named in said
    assert "torchrun" in said


def as_another_user(folder: Path, command: list[str], **environment: str | None) -> subprocess.CompletedProcess:
    """Runs a command as a user who has no entry in the password file and may write to ``folder`` only."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and parent.is_relative_to("/tmp/"):
            parent.chmod(0o755)
    folder.chmod(0o777)
    user = "setpriv --reuid=12345 --regid=12345 --clear-groups"
    rights = "--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search"
    own = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **environment}
    env = {name: value for name, value in {**os.environ, **own}.items() if value is not None}
    env.pop("TORCHINDUCTOR_CACHE_DIR", None)
    words = [*user.split(), *rights.split(), *command]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=900)


@pytest.mark.soak
@needs_another_user
@pytest.mark.parametrize(("pipeline", "home"), [("torchvision", None), ("dali", "/nonexistent")])
def test_no_home_and_nowhere_to_cache(few_data, tmp_path, pipeline, home):
    if pipeline == "dali":
        pytest.importorskip("nvidia.dali")
    folder = tmp_path / "own"
    folder.mkdir()
    command = [*TRAIN, *quick(few_data, folder / "run"), "--pipeline", pipeline]
    done = as_another_user(folder, command, HOME=home, XDG_CACHE_HOME=None)
    assert done.returncode == 0, done.stderr
    assert (folder / "run/last.pt").exists()


def test_a_seed_that_has_more_than_64_bits_is_refused(few_data, tmp_path, capsys):
    assert main(quick(few_data, tmp_path / "run", "--set", f"science.seed={1 << 64}")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "seed" in said


def test_a_foreign_package_in_the_current_folder_is_not_ours(tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/__init__.py").touch()
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*TRAIN, "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_at_start_up_is_answered_in_words(few_data, tmp_path):
    """The process is interrupted as soon as torch begins to be imported, which takes most of the start-up."""
    code = (
        "import os, runpy, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv[0] = 'train'\n"
        "runpy.run_module('debiaspl.train', run_name='__main__')\n"
    )
    done = run([sys.executable, "-c", code, *arguments(few_data, tmp_path / "run")])
    assert done.returncode in (128 + signal.SIGINT, -signal.SIGINT), done.stderr
    assert "Traceback" not in done.stderr
    assert "nothing to save" in done.stderr or "interrupted" in done.stderr.lower()


def test_demo_data_is_not_made_below_a_file(tmp_path, load_script, capsys):
    (tmp_path / "file").touch()
    done = run([sys.executable, "tools/make_demo_data.py", "--out", str(tmp_path / "file/x")])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "file/x") in done.stderr


def test_dali_trains_with_a_tiff_that_has_an_orientation(forked, few_data, tmp_path):
    pytest.importorskip("nvidia.dali")
    data = tmp_path / "data"
    shutil.copytree(few_data, data)
    turned = Image.Exif()
    turned[0x0112] = 6
    folder = max((data / "train").iterdir())
    Image.open(min(folder.iterdir())).resize((30, 20)).save(folder / "zz.tif", exif=turned)
    csv = data / "indexes/unlabeled.csv"
    lines = csv.read_text().splitlines()
    lines[1:] = [*lines[1:-1], str(sum(path.is_file() for path in (data / "train").rglob("*.*")) - 1)]
    csv.write_text("\n".join(lines) + "\n")
    ended = forked([*quick(data, tmp_path / "run"), "--pipeline", "dali"])
    assert ended.statuses == [0], ended.said
    assert "replaced" not in ended.said


@pytest.mark.parametrize("folder", ["[/old]", pytest.param("[v2]", marks=pytest.mark.soak)])
def test_brackets_in_a_path_are_shown_as_they_are(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)  # "[/old]" is a folder in a folder
    path = tmp_path / folder / "w.pth"
    torch.save(build_state(small_recipe(Path("data")), 10, Ranks()).student.trunk.state_dict(), path)
    words = ["tools/import_checkpoint.py", str(path), "--arch", "resnet8-small", "--size", "16"]
    done = run([sys.executable, *words], COLUMNS="300")
    assert done.returncode == 0, done.stderr
    assert f"{folder}/w.pth" in done.stdout
