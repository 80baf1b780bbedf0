"""T1: what the machine has, and whether compiled kernels start at all, in a thread of their own too."""

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from bench.arguments import cores
from bench.gpu.findings import NEEDS_GPU, Findings, Settings

USABLE, ENGINES = "CUDA is usable", "the driver and a JPEG engine answer nvidia-smi"
MAIN, FRESH = "a Triton kernel runs in the main thread", "a Triton kernel runs in a fresh thread"
CORES = "this process has a core for a source's thread"
_QUERY = "name,driver_version,memory.total,compute_cap,utilization.jpeg"
_QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")


def run(findings: Findings, settings: Settings) -> None:
    """Looks at driver, devices and cores, and starts a Triton kernel."""
    _count_cores(findings)
    usable = settings.device == "cuda"
    if not usable and not Path("/dev/nvidia0").exists():
        findings.not_run(NEEDS_GPU, (USABLE, ENGINES, MAIN, FRESH))
        return
    findings.check(USABLE, usable, f"torch's wheel is for CUDA {torch.version.cuda}; /dev/nvidia0 is there")
    _ask_driver(findings)
    if not usable:
        findings.not_run("CUDA is not usable", (MAIN, FRESH))
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory = f"{properties.total_memory / 2**30:.1f} GiB, {properties.multi_processor_count} multiprocessors"
        findings.number(f"GPU {number}", f"{properties.name}, sm_{properties.major}{properties.minor}, {memory}")
    findings.number("bfloat16 without emulation", str(torch.cuda.is_bf16_supported(including_emulation=False)))
    _start_kernels(findings)


def _count_cores(findings: Findings) -> None:
    mask = sorted(os.sched_getaffinity(0))
    findings.check(CORES, cores() >= 1, f"{cores()} cores of {os.cpu_count()}, {mask[0]} to {mask[-1]}")
    for path in map(Path, _QUOTAS):
        if path.exists():
            findings.number(f"quota, {path}", path.read_text(encoding="utf-8").strip())


def _ask_driver(findings: Findings) -> None:
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        findings.check(ENGINES, False, str(error))
        return
    answer = " / ".join((done.stdout or done.stderr).strip().splitlines())
    jpeg = answer.rpartition(",")[2].strip()
    findings.check(ENGINES, done.returncode == 0 and "%" in jpeg, f"{_QUERY}: {answer}")


def _start_kernels(findings: Findings) -> None:
    """Never run on a GPU so far."""
    from bench.gpu.triton_kernel import add_one

    def works() -> bool:
        zeros = torch.zeros(1000, device="cuda")
        return bool((add_one(zeros) == 1).all())

    for what, answer in ((MAIN, _tried(works)), (FRESH, _tried(lambda: _in_fresh_thread(works)))):
        findings.check(what, answer == "", answer or "adds one to 1000 numbers")


def _tried(works: Callable[[], bool]) -> str:
    """Returns what goes wrong; empty if nothing does."""
    try:
        return "" if works() else "wrong numbers"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _in_fresh_thread(works: Callable[[], bool]) -> bool:
    """Returns the answer of a thread that has not touched CUDA before; raises what it raises."""
    answer: list[bool | BaseException] = []

    def work() -> None:
        try:
            torch.cuda.set_device(0)
            answer.append(works())
        except BaseException as error:
            answer.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(answer[0], BaseException):
        raise answer[0]
    return answer[0]
