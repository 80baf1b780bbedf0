"""Available memory: the machine's, and the least that any control group on the way up leaves."""

from pathlib import Path

import pytest

from pipelines.beton.memory import available_memory

GIB = 1 << 30
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
SECOND = ("memory.max", "memory.current", "inactive_file")


def machine(folder: Path, cgroup: str) -> tuple[Path, Path]:
    """A machine with 8 GiB available, whose process is in ``cgroup``."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/meminfo").write_text(f"MemTotal: {20 << 20} kB\nMemAvailable: {8 << 20} kB\nBuffers: 1 kB\n")
    (folder / "proc/self/cgroup").write_text(cgroup)
    return folder / "proc", folder / "groups"


def group(folder: Path, names: tuple[str, str, str], limit: str, used: int, reclaimable: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {reclaimable}\n")


def test_without_groups_it_is_the_machines(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, "0::/user.slice\n")
    assert available_memory(proc, groups) == 8 * GIB
    (proc / "self/cgroup").unlink()
    assert available_memory(proc, groups) == 8 * GIB


@pytest.mark.parametrize(("names", "line", "top"), [(FIRST, "4:cpu,memory:", "memory"), (SECOND, "0::", "")])
def test_the_tightest_group_counts(names: tuple[str, str, str], line: str, top: str, tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, f"9:pids:/other\n{line}/slurm/job\n")
    unlimited = "9223372036854771712" if names is FIRST else "max"
    group(groups / top / "slurm/job", names, unlimited, 5 * GIB, GIB)
    assert available_memory(proc, groups) == 8 * GIB
    group(groups / top / "slurm", names, str(6 * GIB), 5 * GIB, 2 * GIB)  # 2 of the 5 are pages that can go
    assert available_memory(proc, groups) == 3 * GIB
    group(groups / top / "slurm/job", names, str(4 * GIB), 5 * GIB, 0)
    assert available_memory(proc, groups) == 0


def test_within_a_container_the_own_group_is_the_top(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, "0::/docker/0123\n")
    group(groups, SECOND, str(3 * GIB), GIB, 0)
    assert available_memory(proc, groups) == 2 * GIB


def test_this_machine_has_some() -> None:
    assert 1 << 20 < available_memory() < 1 << 50
