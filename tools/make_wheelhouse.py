"""Fetches all that ``bench gpu`` needs beside torch, for a machine without registries, in pieces that travel."""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the command works without an install

from debiaspl import startup

if __name__ == "__main__":
    startup.answer_interrupts()

from pipelines import console
from pipelines.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
_DESCRIPTION = """\
Fetches the wheels of DALI, numba and whatever else python -m bench gpu needs beside torch, for a machine that reaches
no registry, and writes them to a folder in pieces that travel one by one.

    make wheelhouse PYTHON_VERSION=3.12 PLATFORM=manylinux_2_28_x86_64

There, with all pieces in one folder:

    sh install.sh python3

compares their checksums, joins them and installs what is missing. Packages that are there and new enough stay.
"""
PACKAGES = (
    *("nvidia-dali-cuda130", "numba", "numpy", "pillow", "jaxtyping", "tqdm"),
    *("pydantic", "rich", "tensorboard", "matplotlib", "pytest"),
)
"""What is fetched, with what each needs. The second line is the trainer's and the tests', which T7 and T2 start."""
PIECE, SUMS, INSTALL, WANTED = "wheelhouse.tar.", "SHA256SUMS", "install.sh", "requirements.txt"
_MEGABYTE = 10**6


class Pieces:
    """A file to write to that becomes several, none longer than ``limit`` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._room = 0
        self._file: BinaryIO | None = None
        self.paths: list[Path] = []

    def write(self, content: bytes) -> int:
        """Writes ``content``, to new files where it does not fit; returns its length."""
        rest = memoryview(content)
        while len(rest):
            if self._file is None or not self._room:
                self.close()
                self.paths.append(self._folder / f"{PIECE}{len(self.paths):03}")
                self._file, self._room = self.paths[-1].open("wb"), self._limit
            taken, rest = rest[: self._room], rest[self._room :]
            self._file.write(taken)
            self._room -= len(taken)
        return len(content)

    def close(self) -> None:
        """Closes the file that is open."""
        if self._file is not None:
            self._file.close()


@console.tells_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, or 2 after a message about what to mend."""
    options = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="wheels-") as folder:
        wheels = Path(folder)
        _download(wheels, options.python_version, options.platform)
        (wheels / WANTED).write_text("".join(f"{line}\n" for line in requirements()), encoding="utf-8")
        pieces = pack(wheels, options.out, options.piece_megabytes * _MEGABYTE)
    total = sum(piece.stat().st_size for piece in pieces) / _MEGABYTE
    console.say(f"{options.out}: {len(pieces)} pieces, {total:.0f} MB; there: sh {INSTALL} python3")
    return 0


def requirements() -> list[str]:
    """Returns pyproject.toml's ranges of PACKAGES, so that versions which another machine has are kept."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    by_name = {re.split(r"[<>=!~ ;\[]", line, maxsplit=1)[0]: line for group in groups for line in group}
    return [by_name[name] for name in PACKAGES]


def platforms(newest: str) -> list[str]:
    """Returns the platform tags that run where ``newest`` does: pip takes each one alone as it is spelt."""
    found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", newest)
    if found is None:
        return [newest]
    processor = found[2]
    tags = [f"manylinux_2_{minor}_{processor}" for minor in range(int(found[1]), 4, -1)]
    return [*tags, *(f"{old}_{processor}" for old in ("manylinux2014", "manylinux2010", "manylinux1"))]


def pack(wheels: Path, out: Path, limit: int) -> list[Path]:
    """Writes the files of ``wheels`` to ``out`` as pieces of a tar archive, with checksums and the script that joins.

    Pieces of an earlier call go. Returns the pieces.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{PIECE}*"):
        old.unlink()
    pieces: Any = Pieces(out, limit)  # tarfile writes to it, and asks for nothing else of a file
    with tarfile.open(fileobj=pieces, mode="w|") as archive:
        for path in sorted(wheels.iterdir()):
            archive.add(path, path.name)
    pieces.close()
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in pieces.paths)
    (out / SUMS).write_text(sums, encoding="utf-8")
    shutil.copyfile(ROOT / "tools" / "install_wheelhouse.sh", out / INSTALL)
    return list(pieces.paths)


def _download(wheels: Path, python_version: str, platform: str) -> None:
    """Fetches the wheels in the versions of constraints.txt. Raises UserError where pip finds none for the machine."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:", "--dest", str(wheels)]
    command += ["--python-version", python_version, "--implementation", "cp"]
    command += [word for tag in platforms(platform) for word in ("--platform", tag)]
    done = subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), *requirements()], check=False)
    if done.returncode:
        raise UserError(
            f"pip could not fetch the wheels for Python {python_version} on {platform}; see its message above. "
            "Name others with PYTHON_VERSION=… PLATFORM=…"
        )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument("--python-version", default=version, metavar="3.N", help=f"of that machine ({version})")
    parser.add_argument("--platform", default="manylinux_2_28_x86_64", metavar="TAG", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("wheelhouse"), metavar="FOLDER", help="default: wheelhouse")
    parser.add_argument("--piece-megabytes", type=int, default=50, metavar="N", help="longest piece (50)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    console.run(main)
