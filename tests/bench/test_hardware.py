"""What is recorded of GPUs and storage, from the words of nvidia-smi and of the kernel."""

import os
from pathlib import Path

from bench.hardware import Gpu, look, read_gpus, storage

ANSWER = """NVIDIA H100 80GB HBM3, 81559 MiB, 570.86.15, 1980 MHz, 1980 MHz, 71.33 W, 700.00 W
NVIDIA-SMI has failed
"""


def test_gpus_are_read_line_by_line() -> None:
    h100 = Gpu("NVIDIA H100 80GB HBM3", "81559 MiB", "570.86.15", "1980 MHz", "1980 MHz", "71.33 W", "700.00 W")
    assert read_gpus(ANSWER) == (h100,)
    assert read_gpus("") == ()


def test_storage_is_the_newest_mount_of_the_folders_device(tmp_path: Path) -> None:
    number = os.stat(tmp_path).st_dev
    block = f"{os.major(number)}:{os.minor(number)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"1 0 {block} / / rw - ext4 /dev/old rw\n2 0 0:1 / /x rw - proc proc rw\n3 0 {block} / / rw - xfs /dev/new rw\n"
    )
    (tmp_path / block / "queue").mkdir(parents=True)
    for turns, disk in (("1", "rotating"), ("0", "solid state")):
        (tmp_path / block / "queue/rotational").write_text(f"{turns}\n")
        found = storage(tmp_path / "not/yet/there", mounts, tmp_path)
        assert (found.kind, found.device, found.disk) == ("xfs", "/dev/new", disk)
        assert found.folder == str(tmp_path.resolve())
    assert storage(tmp_path, mounts, tmp_path / "none").disk == "unknown"


def test_this_machine_has_a_storage_and_a_numa_node(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert found.numa_nodes >= 1
    assert found.storage.folder == str(tmp_path.resolve())
