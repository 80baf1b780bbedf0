"""What the machine has, as far as training depends on it, and what of it would make training fail."""

import os
import resource
import shutil
from pathlib import Path
from typing import NamedTuple

from bench.environment import Environment
from debiaspl import cores
from debiaspl.device import find_device
from pipelines.beton.memory import available_memory
from pipelines.errors import UserError
from pipelines.files import nearest_folder
from pipelines.names import readable

_FEWEST_FILES = 256
"""Descriptors below which threads, data files and sockets of a run do not all fit."""
_LEAST_MEMORY = 2 * 2**30
"""Bytes that torch, a network and its batches take."""
_LEAST_SHM = 64 * 2**20
"""Bytes of shared memory below which several ranks on GPUs cannot begin: NCCL keeps its buffers there."""
_LEAST_DISK = 2**30
"""Bytes for two checkpoints of ResNet-50 and what accompanies them."""


class Fact(NamedTuple):
    """One thing that the machine has."""

    what: str
    value: str
    problem: str = ""
    """What would make training fail, and what to do; empty where nothing would."""


def facts(made: Environment, out: Path) -> list[Fact]:
    """Returns what this process may use; ``out`` is where runs are written."""
    machine = made.machine
    gpus = [f"{gpu.name}, {gpu.memory}, driver {gpu.driver}" for gpu in machine.gpus] or list(made.gpus)
    return [
        _cores(made),
        _memory(made),
        Fact("NUMA nodes", str(machine.numa_nodes)),
        Fact("GPUs", "; ".join(gpus) or "none"),
        _device(),
        Fact("CUDA, cuDNN of torch", ", ".join(filter(None, (machine.cuda, machine.cudnn))) or "none"),
        _shared_memory(len(made.gpus)),
        _files(),
        _room(out),
        Fact("storage of the data", f"{machine.storage.kind}, {machine.storage.device}, {machine.storage.disk}"),
        Fact("load of others", f"{made.load_before[0]:.1f} of {made.cores} cores, over the last minute"),
    ]


def _cores(made: Environment) -> Fact:
    quotas = cores.allowance().quotas.values()
    limited = f"; a control group allows the time of {min(quotas):g}" if quotas else ""
    return Fact("cores", f"{made.cores} of {os.cpu_count()} for this process{limited}")


def _memory(made: Environment) -> Fact:
    left = available_memory()
    value = f"{left / 2**30:.1f} GiB may be taken, of {made.memory_gib:g}"
    short = f"{_LEAST_MEMORY / 2**30:g} GiB are the least: end other programs, or raise the container's limit"
    return Fact("memory", value, short if left < _LEAST_MEMORY else "")


def _device() -> Fact:
    try:
        return Fact("device of a run", find_device("auto"))
    except UserError as error:
        return Fact("device of a run", "a GPU that torch cannot use", str(error))


def _shared_memory(gpus: int, place: Path = Path("/dev/shm")) -> Fact:
    if not place.is_dir():
        return Fact("/dev/shm", "none", "several ranks on GPUs need it: mount a tmpfs there" if gpus > 1 else "")
    size = shutil.disk_usage(place).total
    short = size < _LEAST_SHM and gpus > 1
    return Fact("/dev/shm", f"{size / 2**20:,.0f} MiB", "start the container with --shm-size=1g" if short else "")


def _files() -> Fact:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    value = f"{soft:,} at a time" if soft != resource.RLIM_INFINITY else "unlimited"
    return Fact("open files", value, f"ulimit -n {min(hard, 4096)} allows more" if 0 < soft < _FEWEST_FILES else "")


def _room(out: Path) -> Fact:
    existing = nearest_folder(out)
    free = shutil.disk_usage(existing).free
    problem = ""
    if free < _LEAST_DISK:
        problem = f"a run's checkpoints take {_LEAST_DISK / 2**30:g} GiB: make room, or name another folder with --runs"
    elif not os.access(existing, os.W_OK):
        problem = "it cannot be written: name another folder with --runs"
    return Fact("room for runs", f"{free / 2**30:.1f} GiB in {readable(existing)}", problem)
