"""The parts of a machine that a number depends on besides its processor: GPUs, CUDA libraries, NUMA nodes, storage."""

import csv
import io
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.files import nearest_folder

_QUERY = "name,memory.total,driver_version,clocks.sm,clocks.max.sm,power.draw,power.limit"
_PATIENCE = 20
"""Seconds that nvidia-smi may take."""
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi describes it, in its own units: MiB, MHz, W."""

    name: str
    memory: str
    driver: str
    clock: str
    clock_limit: str
    power: str
    power_limit: str


@dataclass(frozen=True)
class Storage:
    """Holds what a folder's files lie on."""

    folder: str
    kind: str = _UNKNOWN
    """The file system, such as ext4, overlay or nfs4."""
    device: str = _UNKNOWN
    disk: str = _UNKNOWN
    """'rotating' or 'solid state', where the kernel says so of the block device."""


@dataclass(frozen=True)
class Machine:
    """Recorded with every report; empty where there is no GPU."""

    gpus: tuple[Gpu, ...] = ()
    cuda: str = ""
    """Versions that torch's wheel was built for, or brings."""
    cudnn: str = ""
    nccl: str = ""
    numa_nodes: int = 1
    storage: Storage = Storage("")


def look(folder: Path) -> Machine:
    """Returns the machine's parts; ``folder`` is where the data lies that is measured."""
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return Machine(
        gpus=gpus(),
        cuda=torch.version.cuda or "",
        cudnn=str(cudnn or ""),
        nccl=".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else "",
        numa_nodes=max(1, len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))),
        storage=storage(folder),
    )


def gpus() -> tuple[Gpu, ...]:
    """Returns the GPUs that the driver names, none where there is no nvidia-smi."""
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return read_gpus(done.stdout) if done.returncode == 0 else ()


def read_gpus(answer: str) -> tuple[Gpu, ...]:
    """Returns the GPUs in nvidia-smi's lines; lines of another form are left out."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(answer))]
    return tuple(Gpu(*row) for row in rows if len(row) == len(_QUERY.split(",")))


def storage(
    folder: Path, mounts: Path = Path("/proc/self/mountinfo"), blocks: Path = Path("/sys/dev/block")
) -> Storage:
    """Returns what ``folder``, or the nearest folder above it that exists, lies on."""
    existing = nearest_folder(folder).resolve()
    number = os.stat(existing).st_dev
    block = f"{os.major(number)}:{os.minor(number)}"
    kind, device = _mount(block, mounts)
    for queue in (blocks / block / "queue", (blocks / block).resolve().parent / "queue"):  # of a disk, of a partition
        if (queue / "rotational").exists():
            turns = (queue / "rotational").read_text(encoding="ascii").strip() == "1"
            return Storage(str(existing), kind, device, "rotating" if turns else "solid state")
    return Storage(str(existing), kind, device)


def _mount(block: str, mounts: Path) -> tuple[str, str]:
    """Returns the file system and source of the newest mount of a device."""
    found = (_UNKNOWN, _UNKNOWN)
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [block] and len(after.split()) > 1:
            found = (after.split()[0], after.split()[1])
    return found
