"""How many of a machine's cores one rank may keep busy: those it may run on, shared with the ranks beside it."""

import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.beton.memory import control_groups


class Allowance(NamedTuple):
    """What the system lets one process use."""

    machine: str
    cores: frozenset[int]
    """The cores that it may run on: its affinity mask."""
    quotas: dict[str, float]
    """Control group → how many cores' time all its processes may take together."""

    def packed(self) -> str:
        """Returns it as a text, to be sent to the other ranks."""
        return json.dumps([self.machine, sorted(self.cores), self.quotas])

    @classmethod
    def unpacked(cls, text: str | bytes) -> "Allowance":
        """Returns what ``packed`` was called on."""
        machine, cores, quotas = json.loads(text)
        return cls(machine, frozenset(cores), quotas)


def allowance(processes: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> Allowance:
    """Returns what the system lets this process use."""
    return Allowance(platform.node(), frozenset(os.sched_getaffinity(0)), dict(_quotas(processes, groups)))


def share(own: Allowance, everyone: Sequence[Allowance]) -> int:
    """Returns how many cores a rank may keep busy, at least one; ``everyone`` holds the allowances of all ranks.

    Each core is divided among the ranks of its machine that may run on it, each quota among those in its group.
    """
    beside = [other for other in everyone if other.machine == own.machine]
    cores = sum(1 / sum(core in other.cores for other in beside) for core in own.cores)
    quotas = [quota / sum(group in other.quotas for other in beside) for group, quota in own.quotas.items()]
    return max(1, math.floor(min([cores, *quotas]) + 1e-9))  # 8 thirds of a core three times are 8 cores


def _quotas(processes: Path, groups: Path) -> Iterator[tuple[str, float]]:
    """Yields the groups of this process that have a quota of CPU time, and how many cores that is."""
    for folder, first in control_groups("cpu", processes, groups):
        try:
            if first:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            else:
                quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):  # the root group has none of these files
            continue
        if quota not in ("max", "-1"):
            yield str(folder), int(quota) / int(period)
