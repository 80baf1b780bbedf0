"""The wheel holds every command and all that they read, and needs nothing of the clone that it was built from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from debiaspl.__main__ import COMMANDS
from tests.support.runs import REPORTS, quick

ROOT = Path(__file__).parents[2]
PACKAGES = ("debiaspl", "pipelines", "bench")


def tracked(*below: str) -> list[str]:
    """Files of the project, whether or not they are committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *below]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel alone; it is built in a copy, which setuptools may litter, and which goes."""
    base = tmp_path_factory.mktemp("wheel")
    for name in tracked(*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        (base / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, base / "clone" / name)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(base), str(base / "clone")]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = base.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(base / "site"), str(wheel)], check=True)
    shutil.rmtree(base / "clone")
    return base / "site"


def run(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Runs the installed command ``debiaspl`` in ``folder``."""
    command = [sys.executable, str(site / "bin/debiaspl"), *words]
    env = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_wheel_holds_three_packages_and_all_their_files(site):
    packages = {path.name for path in site.iterdir() if path.is_dir() and ".dist-info" not in path.name}
    assert packages == {*PACKAGES, "bin"}
    wanted = [name for name in tracked(*PACKAGES) if not name.startswith("bench/reports/")]
    assert [name for name in wanted if not (site / name).exists()] == []


def test_every_command_comes_from_the_wheel(site, tmp_path):
    code = "import sys\nfrom importlib import import_module\nfrom debiaspl.__main__ import COMMANDS\n"
    code += "for module, _ in COMMANDS.values():\n    import_module(module)\n"
    code += "print(*(getattr(m, '__file__', None) for m in list(sys.modules.values())), sep='\\n')"
    env = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = {name for name in done.stdout.splitlines() if any(f"/{package}/" in name for package in PACKAGES)}
    assert len(ours) > len(COMMANDS)
    assert {name for name in ours if not name.startswith(f"{site}/")} == set()


def test_the_command_answers_and_works(site, tmp_path, demo_data):
    shown = run(site, tmp_path, "--help")
    assert shown.stdout.startswith("usage: debiaspl "), shown.stderr
    done = run(site, tmp_path, "splits", "per-class", "3", "--data", str(demo_data), "--out", "indexes")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "indexes/train_3perclass_index.csv").exists()


@pytest.mark.soak
def test_the_wheel_trains(site, tmp_path, few_data):
    done = run(site, tmp_path, "train", *quick(few_data, tmp_path / "run", *REPORTS))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/last.pt").exists()
