"""Cores of a rank: its affinity mask and its control groups' quotas, shared with the ranks beside it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from debiaspl.cores import Allowance, allowance, share

COUNT = "from debiaspl.cores import allowance, share; own = allowance(); print(share(own, [own]), sorted(own.cores))"


def on(*cores: int, machine: str = "a", **quotas: float) -> Allowance:
    return Allowance(machine, frozenset(cores), quotas)


@pytest.mark.parametrize(
    ("everyone", "expected"),
    [
        ([on(*range(13))], [13]),
        ([on(*range(16))] * 8, [2] * 8),  # one mask for all
        ([on(*range(13 * rank, 13 * rank + 13)) for rank in range(8)], [13] * 8),  # a mask each
        ([on(*range(8))] * 2 + [on(*range(8, 16))] * 2, [4] * 4),  # two NUMA nodes
        ([on(*range(8)), on(0, 1)], [7, 1]),  # two cores are shared
        ([on(*range(3))] * 3, [1] * 3),
        ([on(0)] * 4, [1] * 4),  # never none
        ([on(*range(8)), on(*range(8), machine="b")], [8, 8]),
        ([on(*range(16), pod=6.0)] * 2, [3] * 2),
        ([on(*range(16), own=5.0, slice=8.0), on(*range(16), slice=8.0)], [4, 4]),
        ([on(*range(16), pod=2.5)], [2]),
    ],
)
def test_what_is_shared_is_divided_among_those_who_share_it(everyone: list[Allowance], expected: list[int]) -> None:
    assert [share(own, everyone) for own in everyone] == expected


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_a_mask_is_heeded() -> None:
    core = min(allowance().cores)
    command = ["taskset", "-c", str(core), sys.executable, "-c", COUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["1", f"[{core}]\n"]


def quota(folder: Path, version: int, cores: float | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 1:
        (folder / "cpu.cfs_quota_us").write_text("-1\n" if cores is None else f"{int(cores * 100_000)}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")
    else:
        (folder / "cpu.max").write_text("max 100000\n" if cores is None else f"{int(cores * 100_000)} 100000\n")


@pytest.mark.parametrize(("version", "line", "top"), [(1, "2:cpu,cpuacct:", "cpu"), (2, "0::", "")])
def test_quotas_of_all_groups_on_the_way_up_are_read(version: int, line: str, top: str, tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text(f"9:pids:/other\n{line}/slurm/job\n")
    assert allowance(proc, groups).quotas == {}
    quota(groups / top / "slurm/job", version, None)
    assert allowance(proc, groups).quotas == {}
    quota(groups / top / "slurm", version, 6)
    assert allowance(proc, groups).quotas == {str(groups / top / "slurm"): 6}
    quota(groups / top / "slurm/job", version, 2.5)
    found = allowance(proc, groups)
    assert sorted(found.quotas.values()) == [2.5, 6]
    wide = found._replace(cores=frozenset(range(64)))
    assert share(wide, [wide]) == 2


def test_an_allowance_can_be_sent() -> None:
    own = on(3, 1, 2, quota=1.5)
    assert Allowance.unpacked(own.packed().encode()) == own
    assert json.loads(own.packed())  # a text that any rank can read
