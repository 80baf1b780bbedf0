"""What a number depends on besides the code: the machine, the versions, the commit, who else was computing."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path

import torch
from PIL import features

from bench import hardware
from bench.arguments import cache_folder
from bench.hardware import Machine
from pipelines.beton import turbojpeg
from pipelines.errors import MissingDependency

_ROOT = Path(__file__).parents[1]
_PACKAGES = re.compile(r"torch|torchvision|numpy|numba|pillow|ffcv|nvidia-dali-cuda\d+")
"""Distributions whose versions are recorded where they are installed."""


@dataclass(frozen=True)
class Environment:
    """Recorded with every report."""

    cpu: str
    cores: int
    """Cores this process may use, not those of the machine."""
    memory_gib: float
    gpus: tuple[str, ...]
    os: str
    python: str
    versions: dict[str, str]
    commit: str
    dirty: bool
    """The working tree differed from the commit (reports aside)."""
    date: str
    """Local time of the start, ISO 8601."""
    load_before: tuple[float, ...]
    """Load averages over 1, 5 and 15 minutes."""
    load_after: tuple[float, ...] = ()
    machine: Machine = Machine()
    """GPUs, CUDA libraries, NUMA nodes and storage; empty in reports of before schema 1."""

    @property
    def hardware(self) -> str:
        """The machine as file names have it, such as 2-core-amd-epyc."""
        plain = re.sub(r"\([^)]*\)|@.*|\b(cpu|processor|\d+-core)\b", " ", self.cpu.lower())
        words = re.findall(r"[a-z0-9]+", plain) or ["cpu"]
        return "-".join([f"{self.cores}-core", *words])

    @property
    def idle(self) -> bool:
        """Whether nobody else was computing when the measurement began, as far as the load average tells."""
        return self.load_before[0] < 0.25 * self.cores

    def ended(self) -> "Environment":
        """Returns the same with the load at the end of the measurement."""
        return replace(self, load_after=_load())


def record(data: Path | None = None) -> Environment:
    """Returns the environment of this process, now; ``data``: the folder that is read, by default the bench's own."""
    commit, dirty = _commit()
    return Environment(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpus=tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())),
        os=f"{_os_release()}, Linux {platform.release()}",
        python=platform.python_version(),
        versions=_versions(),
        commit=commit,
        dirty=dirty,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        load_before=_load(),
        machine=hardware.look(data or cache_folder()),
    )


def _load() -> tuple[float, ...]:
    return tuple(round(load, 2) for load in os.getloadavg())


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _os_release() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown distribution"


def _versions() -> dict[str, str]:
    names = ((found.metadata["Name"], found.version) for found in distributions())
    versions = dict(sorted((name.lower(), version) for name, version in names if _PACKAGES.fullmatch(name.lower())))
    versions["libjpeg-turbo (Pillow's own)"] = features.version("libjpeg_turbo") or "none"
    try:
        versions["libjpeg-turbo (system)"] = turbojpeg.version()
    except MissingDependency:
        versions["libjpeg-turbo (system)"] = "not installed"
    return versions


def _commit() -> tuple[str, bool]:
    """Returns the commit and whether more than a report differs from it; ("unknown", True) outside a git checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--", ".", ":!bench/reports")
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True
    return commit, bool(changes)


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=_ROOT, check=True, capture_output=True, text=True).stdout.strip()
