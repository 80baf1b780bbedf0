"""T2: the device's bytes are those of Pillow and of the CPU executor, also where kernels and copies queue up."""

import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bench.gpu import pictures, sources
from bench.gpu.findings import NEEDS_GPU, Findings, Settings
from pipelines import FfcvOptions, Listing, TrainingViews, list_images
from pipelines.augment import compiled, cpu, gpu, ops
from pipelines.augment.ops import Op

OPERATIONS = "RandAugment on the device equals the CPU executor"
COMPILED = "compiled, RandAugment on the device equals the CPU executor"
FFCV = {
    "source": "ffcv equals Pillow, RandAugment by its threads",
    "device": "ffcv equals Pillow, RandAugment by the device",
}
MARKED = "the tests marked gpu pass"
_ROOT = Path(__file__).parents[2]
_SPIN = 200_000_000
"""Cycles that a kernel spins in front of what is compared, about 0.1 s: whoever does not wait reads too early."""
_PATIENCE = 240
"""Seconds for the tests that are marked gpu."""


def run(findings: Findings, settings: Settings) -> None:
    """Compares the executors, then ffcv with Pillow batch by batch, then runs the project's own GPU tests."""
    device = settings.device
    _compare_operations(findings, device, settings.count(224, 32))
    if absent := sources.why_absent("ffcv"):
        findings.not_run(absent, list(FFCV.values()))
    else:
        batch, steps = settings.count(40, 8), settings.count(4, 2)
        size = settings.count(224, 64)
        listing = list_images(pictures.corpus(settings.folder, batch * steps))
        for strong_on in ("source", "device"):
            _compare_ffcv(findings, listing, device, batch, steps, size, strong_on)
    if device == "cuda":
        _run_marked_tests(findings)
    else:
        findings.not_run(NEEDS_GPU, [MARKED])


def _compare_operations(findings: Findings, device: str, side: int) -> None:
    """Compares every operation at every signed level, as the first and as the second of two draws."""
    levels = [*range(-ops.LEVELS, 0), *range(1, ops.LEVELS + 1)]
    drawn = np.array([(op, level) for op in Op for level in levels])
    twice = np.stack([drawn, np.roll(drawn, 5, axis=0)], axis=-1)  # [views, op or level, draw]
    op, level = twice[:, 0].astype(np.uint8), twice[:, 1].astype(np.int8)
    views = np.stack([np.asarray(pictures.photograph(side, side, seed)) for seed in range(8)])
    views = views[np.arange(len(op)) % len(views)]
    expected = views.copy()
    cpu.augment_batch(expected[None], op[None], level[None], threads=1)
    there = torch.from_numpy(views).to(device)
    runs = {OPERATIONS: gpu.apply, COMPILED: compiled.in_few_kernels()}
    if device == "cpu":
        del runs[COMPILED]
        findings.not_run(NEEDS_GPU, [COMPILED])
    for what, run in runs.items():
        spin(device)
        found = gpu.augment_batch(there, op, level, run).cpu().numpy()
        wrong = int((found != expected).any(axis=(1, 2, 3)).sum())
        findings.check(what, wrong == 0, f"{wrong} of {len(op)} views differ; {side} pixels, {device}")


def _compare_ffcv(
    findings: Findings,
    listing: Listing,
    device: str,
    batch: int,
    steps: int,
    size: int,
    strong_on: Literal["source", "device"],
) -> None:
    views = TrainingViews(size=size, weak=2, strong=2)
    pillow = sources.training("torchvision", listing, "cpu", batch, steps, views)
    ours = sources.training("ffcv", listing, device, batch, steps, views, FfcvOptions(strong_on=strong_on))
    wrong, kept = 0, list[tuple[Tensor, Tensor]]()
    with closing(pillow), closing(ours):
        spin(device, ours)
        for expected, found in zip(pillow, ours, strict=True):
            spin(device)  # its memory must not be given to the next batch before this copy was made
            kept.append((expected.pixels, found.pixels.clone()))
            del found
            spin(device, ours)
        for expected_pixels, copied in kept:
            wrong += int((copied.cpu() != expected_pixels).flatten(2).any(-1).sum())
    total = views.count * batch * steps
    findings.check(FFCV[strong_on], wrong == 0, f"{wrong} of {total} views differ; {size} pixels, {device}")


def spin(device: str, source: Any = None) -> None:
    """Queues a kernel that only takes time on the current stream, or on that of a source; nothing on a CPU."""
    if device == "cpu":
        return
    # Never run on a GPU so far.
    stream = getattr(source, "_stream", None) or torch.cuda.current_stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(_SPIN)


def _run_marked_tests(findings: Findings) -> None:
    """Runs the tests that need a GPU, those of the files that say so: others may need packages that are not here."""
    if find_spec("pytest") is None:
        findings.not_run("pytest is not installed", [MARKED])
        return
    files = [path for path in (_ROOT / "tests").rglob("test_*.py") if "needs_gpu" in path.read_text(encoding="utf-8")]
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-m", "gpu"]
    try:
        done = subprocess.run(
            [*command, *map(str, files)], capture_output=True, text=True, check=False, cwd=_ROOT, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        findings.check(MARKED, False, f"not done after {_PATIENCE} s")
        return
    said = (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1]
    findings.check(MARKED, done.returncode == 0, said)
