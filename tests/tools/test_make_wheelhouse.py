"""The wheelhouse: what is cut in pieces is joined again byte for byte, damage is named, and pip installs from it."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

LIMIT = 3000
# An interpreter that keeps what pip would be given.
PYTHON = '#!/bin/sh\necho "$@" > "$KEPT.words"\nwhile [ "$1" != --find-links ]; do shift; done\ncp -r "$2" "$KEPT"\n'


@pytest.fixture(scope="module")
def tool(load_script) -> ModuleType:
    return load_script("tools/make_wheelhouse.py")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with a wheel that can be installed, one that is longer than two pieces, and what is wanted of them."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_made-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_made.py", "VALUE = 42\n")
        information = "tiny_made-1.0.dist-info/"
        wheel.writestr(f"{information}METADATA", "Metadata-Version: 2.1\nName: tiny-made\nVersion: 1.0\n")
        wheel.writestr(f"{information}WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}RECORD", "")
    (folder / "large-1.0-py3-none-any.whl").write_bytes(np.random.default_rng(0).bytes(3 * LIMIT))
    (folder / "requirements.txt").write_text("tiny-made>=0.9\n", encoding="utf-8")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def installed(out: Path, python: Path | str, *options: str, kept: Path) -> "subprocess.CompletedProcess[str]":
    command = ["sh", str(out / "install.sh"), str(python), *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return subprocess.run(command, env=environment | {"KEPT": str(kept)}, capture_output=True, text=True, check=False)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(PYTHON, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_pieces_are_joined_to_what_was_cut(tool, wheels: Path, python: Path, tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    pieces = tool.pack(wheels, out, LIMIT)
    sizes = [piece.stat().st_size for piece in pieces]
    assert len(pieces) > 3
    assert all(size == LIMIT for size in sizes[:-1])
    assert 0 < sizes[-1] <= LIMIT
    done = installed(out, python, "--target", "there", kept=kept)
    assert done.returncode == 0, done.stderr
    assert digests(kept) == digests(wheels)
    words = Path(f"{kept}.words").read_text(encoding="utf-8").split()
    assert words[:4] == ["-m", "pip", "install", "--no-index"]
    assert words[-2:] == ["--target", "there"]


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_piece_is_named_and_nothing_is_installed(
    damage: str, tool, wheels: Path, python: Path, tmp_path: Path
) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    piece = tool.pack(wheels, out, LIMIT)[1]
    if damage == "missing":
        piece.unlink()
    else:
        content = bytearray(piece.read_bytes())
        content[100] ^= 1
        piece.write_bytes(content)
    done = installed(out, python, kept=kept)
    assert done.returncode == 2
    assert piece.name in done.stderr + done.stdout
    assert "copy it again" in done.stderr
    assert not kept.exists()


def test_pieces_of_an_earlier_wheelhouse_go(tool, wheels: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tool.pack(wheels, out, LIMIT)
    (only,) = tool.pack(wheels, out, 100 * LIMIT)
    assert [path.name for path in sorted(out.glob("wheelhouse.tar.*"))] == [only.name]


def test_pip_installs_from_it_without_an_index(tool, wheels: Path, tmp_path: Path) -> None:
    (wheels / "large-1.0-py3-none-any.whl").unlink()  # pip would look into it
    out, target = tmp_path / "out", tmp_path / "target"
    tool.pack(wheels, out, LIMIT)
    done = installed(out, sys.executable, "--target", str(target), "-q", kept=tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    assert (target / "tiny_made.py").read_text(encoding="utf-8") == "VALUE = 42\n"


def test_what_is_fetched_has_the_projects_ranges(tool) -> None:
    wanted = tool.requirements()
    assert [line.partition(">")[0] for line in wanted] == list(tool.PACKAGES)
    assert "nvidia-dali-cuda130>=2.0,<3" in wanted
    assert not any(line.startswith("torch") for line in wanted)


def test_older_platforms_run_where_newer_ones_do(tool) -> None:
    tags = tool.platforms("manylinux_2_28_x86_64")
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux_2_5_x86_64", "manylinux2014_x86_64"} <= set(tags)
    assert "manylinux_2_29_x86_64" not in tags
    assert tool.platforms("macosx_14_0_arm64") == ["macosx_14_0_arm64"]
