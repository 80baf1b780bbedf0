"""Memory that this process may still take: the machine's, or less where a control group (container, job) limits it."""

import sys
from collections.abc import Iterator
from pathlib import Path

_SECOND = ("memory.max", "memory.current", "inactive_file")
_FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""Per version of control groups: files with the limit and the use, and the statistic of pages that go when needed."""


def available_memory(processes: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the bytes that are free, counting pages of files that the kernel would give up."""
    return min((_of_machine(processes), *_of_groups(processes, groups)))


def _of_machine(processes: Path) -> int:
    for line in (processes / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return sys.maxsize


def _of_groups(processes: Path, groups: Path) -> Iterator[int]:
    """Returns what each group that this process is in, or that such a group is in, has left."""
    for folder, first in control_groups("memory", processes, groups):
        left = _left(folder, *(_FIRST if first else _SECOND))
        if left is not None:
            yield left


def control_groups(kind: str, processes: Path, groups: Path) -> Iterator[tuple[Path, bool]]:
    """Yields the folders of the groups of a ``kind`` (such as 'memory') that this process is in, from its own upwards.

    With each comes whether it is of the first version of control groups, whose files have other names.
    """
    try:
        lines = (processes / "self/cgroup").read_text().splitlines()
    except OSError:  # a kernel without control groups
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and kind not in kinds.split(","):
            continue
        top = groups / kind if kinds else groups
        own = top / path.lstrip("/")  # not there within a container, whose own group is the top
        for folder in (own, *(above for above in own.parents if above.is_relative_to(top))):
            yield folder, bool(kinds)


def _left(folder: Path, limit: str, use: str, reclaimable: str) -> int | None:
    """Returns what a group has left; None where it has no limit."""
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / use).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # the root group has none of these files
        return None
    return None if most == "max" else max(int(most) - used + int(statistics.get(reclaimable, 0)), 0)
