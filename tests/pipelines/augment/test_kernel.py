"""Kernels are compiled once, compiled anew when any file of the package changes, and never fail over their cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CALLEE = '''"""A kernel that another file calls."""

from pipelines.augment.kernel import kernel
from pipelines.augment.numbers import STEP


@kernel
def further(number):
    return number + STEP
'''
CALLER = '''"""A kernel that calls another file's."""

from pipelines.augment import callee
from pipelines.augment.kernel import kernel


@kernel
def twice(number):
    return callee.further(callee.further(number))
'''
RUN = """
from pipelines.augment.caller import twice
print(twice(10), twice.stats.cache_hits.total(), twice.stats.cache_misses.total())
"""


class Package:
    """A package ``pipelines`` of two kernels and a constant in three files, with the real kernel.py."""

    def __init__(self, root: Path) -> None:
        self.root, self.augment = root, root / "pipelines" / "augment"
        self.augment.mkdir(parents=True)
        for name in ("files.py", "augment/kernel.py"):
            shutil.copy(ROOT / "pipelines" / name, root / "pipelines" / name)
        (self.augment / "caller.py").write_text(CALLER)
        (self.augment / "callee.py").write_text(CALLEE)
        (self.augment / "numbers.py").write_text("STEP = 1\n")

    def run(self, **environment: str) -> tuple[int, int, int]:
        """What a new process computes, how many kernels it loaded from the cache and how many it compiled."""
        env = {**os.environ, "PYTHONPATH": str(self.root), "XDG_CACHE_HOME": str(self.root / "cache"), **environment}
        command = [sys.executable, "-W", "error", "-c", RUN]
        done = subprocess.run(command, env=env, cwd=self.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result, loaded, compiled = map(int, done.stdout.split())
        return result, loaded, compiled

    def code(self) -> list[Path]:
        return sorted(self.root.rglob("*.nbc"))


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


def test_second_start_compiles_nothing_and_a_change_anywhere_takes_effect(package: Package) -> None:
    assert package.run() == (12, 0, 1)
    assert [path.parent for path in package.code()] == [package.root / "pipelines" / "__pycache__"] * 2
    assert package.run() == (12, 1, 0)
    (package.augment / "numbers.py").write_text("STEP = 5\n")  # neither kernel's own file
    assert package.run() == (20, 0, 1)
    (package.augment / "callee.py").write_text(CALLEE.replace("number + STEP", "number - STEP"))
    assert package.run() == (0, 0, 1)
    assert package.run() == (0, 1, 0)
    assert len(package.code()) == 2  # the old code was replaced, not added to


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(None, id="one byte"),
        pytest.param(b"", id="empty", marks=pytest.mark.soak),
        pytest.param(b"\0" * 40, id="other content", marks=pytest.mark.soak),
    ],
)
def test_damaged_code_is_compiled_anew(package: Package, damage: bytes | None) -> None:
    package.run()
    for path in package.code():
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(bytes(content) if damage is None else damage)
    assert package.run() == (12, 0, 1)
    assert package.run() == (12, 1, 0)


def test_code_of_another_signature_is_not_taken(package: Package) -> None:
    """Whatever stands in a file, only code made for the very kernel and signature is run."""
    package.run()
    callee, caller = sorted(package.code(), key=lambda path: "caller" in path.name)
    caller.write_bytes(callee.read_bytes())
    assert package.run() == (12, 0, 1)


def test_without_a_place_for_the_cache_kernels_are_compiled(package: Package) -> None:
    # A file where a folder would have to be made cannot be written to by anybody, root included.
    (package.root / "file").write_text("")
    (package.root / "pipelines" / "__pycache__").write_text("")
    nowhere = {"XDG_CACHE_HOME": str(package.root / "file"), "PYTHONDONTWRITEBYTECODE": "1"}
    assert package.run(**nowhere) == (12, 0, 1)
    assert package.code() == []
    assert package.run() == (12, 0, 1)  # now with the user's cache folder
    assert {path.relative_to(package.root).parts[:3] for path in package.code()} == {("cache", "debiaspl", "kernels")}
    assert package.run() == (12, 1, 0)


def test_numba_cache_dir_is_followed(package: Package, tmp_path: Path) -> None:
    chosen = {"NUMBA_CACHE_DIR": str(tmp_path / "chosen")}
    assert package.run(**chosen) == (12, 0, 1)
    assert all(tmp_path / "chosen" in path.parents for path in package.code())
    assert package.run(**chosen) == (12, 1, 0)
