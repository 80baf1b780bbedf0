"""T5: ResNet-50's step alone, the pipelines alone, both together: does the loader keep the GPU busy? GPUs only.

Never run on a GPU so far. Times of the device are taken by CUDA events; the step is one group of 8 + 40 images.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count, islice
from typing import Any
from unittest import mock

import numpy as np
import torch

from bench.arguments import LABELED, UNLABELED
from bench.gpu import pictures, sources, workload
from bench.gpu.findings import NEEDS_GPU, Findings, Settings
from debiaspl.config import Science
from debiaspl.distributed import Ranks
from pipelines import NAMES, Listing, list_images
from pipelines.augment import compiled, gpu, ops
from pipelines.batch import Batch
from pipelines.sources.feed import Feed

KEEPS_UP, IDLES = (
    "end to end reaches 0.95 of the slower of step and loader",
    "the GPU idles less than 2 % behind the best pipeline",
)
_SHARE, _IDLE = 0.95, 0.02
_COMPILER = "augment-compiler"
"""The name of the thread in which a source compiles."""
_WARM_UP = 5
"""Steps before the clock starts: compilation, cuDNN's search, filled queues."""


def run(findings: Findings, settings: Settings) -> None:
    """Times everything, what needs no compiler first, so that a part which is cut short has found the most."""
    if settings.device == "cpu":
        findings.not_run(NEEDS_GPU, (KEEPS_UP, IDLES))
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    small = settings.quick
    wanted = workload.science("resnet18" if small else "resnet50", 64 if small else 224, LABELED, UNLABELED // LABELED)
    steps = settings.count(60, 8)
    listing = list_images(pictures.corpus(settings.folder, settings.count(2400, 480)))
    _time_augmentation(findings, wanted.size)
    loaders = {name: _time_loader(findings, name, listing, wanted, steps) for name in NAMES}
    alone, learners = dict[str, float](), dict[str, workload.Learner]()
    for mode in ("eager", "compiled", "graphs"):
        learners[mode] = workload.learner(wanted, "cuda", _dtype(), mode)
        alone[mode] = _time_step(findings, learners[mode], wanted, mode, steps)
        if mode != "eager":
            _together(findings, loaders, listing, wanted, learners[mode], mode, alone[mode], steps)


def _dtype() -> str:
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _milliseconds(work: Callable[[], object], times: int) -> float:
    """Returns the device's time for one call, after a warm-up."""
    for _ in range(_WARM_UP):
        work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / times


def _time_augmentation(findings: Findings, size: int) -> None:
    """Times RandAugment of a step's 80 strong views, eager and compiled."""
    rng = np.random.default_rng(0)
    op = rng.integers(0, len(ops.Op), (2 * UNLABELED, 2)).astype(np.uint8)
    level = rng.integers(1, ops.LEVELS + 1, op.shape).astype(np.int8)
    pixels = torch.randint(0, 256, (2 * UNLABELED, size, size, 3), dtype=torch.uint8, device="cuda")
    given = gpu.upload(gpu.parameters(op, level, size, size), pixels.device)
    findings.number("RandAugment of 80 views, eager", f"{_milliseconds(lambda: gpu.apply(pixels, given), 20):.2f} ms")
    begin, apply = time.monotonic(), compiled.in_few_kernels()
    apply(pixels, given)
    findings.number("RandAugment, compiling", f"{time.monotonic() - begin:.1f} s")
    findings.number("RandAugment of 80 views, compiled", f"{_milliseconds(lambda: apply(pixels, given), 20):.2f} ms")


@contextmanager
def _opened(name: str, listing: Listing, wanted: Science, steps: int, priority: int | None = None) -> Iterator[Feed]:
    """Opens a pipeline, its streams with their own ``priority`` or another one; it compiles RandAugment at once.

    A run does so at its 64th batch, which is never reached while something is timed.
    """
    stream = torch.cuda.Stream

    def with_priority(device: Any = None, **_: Any) -> torch.cuda.Stream:
        return stream(device, priority=priority or 0)

    ranks = Ranks(device=torch.device("cuda", 0))
    with mock.patch.object(torch.cuda, "Stream", stream if priority is None else with_priority):
        feed = sources.run_data(name, listing, wanted, ranks, steps + _WARM_UP).feed
    with closing(feed), mock.patch.object(compiled, "UNCOMPILED", 1):
        for _ in feed:  # an epoch, in which it compiles
            pass
        for thread in threading.enumerate():
            if thread.name == _COMPILER:
                thread.join()
        yield feed


def _time_loader(findings: Findings, name: str, listing: Listing, wanted: Science, steps: int) -> float | None:
    """Returns the milliseconds of a step's images without a step; None where the pipeline cannot be opened."""
    if absent := sources.why_absent(name):
        findings.number(f"{name} alone", absent)
        return None
    with _opened(name, listing, wanted, steps) as feed:
        batches = iter(feed)
        for _ in islice(batches, _WARM_UP):
            pass
        begin = time.monotonic()
        taken = sum(1 for _ in batches)
        torch.cuda.synchronize()
        found = 1000 * (time.monotonic() - begin) / taken
    findings.number(f"{name} alone", f"{found:.2f} ms a step's images")
    return found


def _time_step(findings: Findings, learner: workload.Learner, wanted: Science, mode: str, steps: int) -> float:
    resident, numbers = workload.batches(wanted, "cuda", 2), count()

    def step() -> None:
        number = next(numbers)
        learner.step([resident[number % 2]], number)

    found = _milliseconds(step, steps)
    findings.number(f"step alone, {mode}", f"{found:.2f} ms in {_dtype()}")
    return found


def _together(
    findings: Findings,
    loaders: dict[str, float | None],
    listing: Listing,
    wanted: Science,
    learner: workload.Learner,
    mode: str,
    alone: float,
    steps: int,
) -> None:
    """Times steps that each pipeline feeds, at two stream priorities, and judges the best."""
    shares, idles = dict[str, float](), dict[str, float]()
    for name, loader in loaders.items():
        for priority in (0, -1) if loader is not None else ():
            with _opened(name, listing, wanted, steps, priority) as feed:
                took, idle = _fed(learner, feed)
            row = f"{name}, {mode} step, priority {priority}"
            shares[row], idles[row] = max(alone, loader or 0) / took, idle
            findings.number(
                row, f"{took:.2f} ms a step end to end, GPU idle {idle:.1%}, {shares[row]:.2f} of the slower"
            )
    worst, best = min(shares, key=lambda row: shares[row]), min(idles, key=lambda row: idles[row])
    findings.check(KEEPS_UP, shares[worst] >= _SHARE, f"worst: {worst}, {shares[worst]:.2f}")
    findings.check(IDLES, idles[best] < _IDLE, f"best: {best}, {idles[best]:.1%}")


def _fed(learner: workload.Learner, feed: Feed) -> tuple[float, float]:
    """Returns the milliseconds from step to step, and the share of the time in which the training stream is idle."""
    marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    for number, batch in enumerate(feed):
        marks.append((_mark(), _step(learner, batch, number)))
    torch.cuda.synchronize()
    marks = marks[_WARM_UP:]
    whole = marks[0][0].elapsed_time(marks[-1][1])
    busy = sum(begin.elapsed_time(end) for begin, end in marks)
    return whole / len(marks), 1 - busy / whole


def _step(learner: workload.Learner, batch: Batch, number: int) -> torch.cuda.Event:
    learner.step([batch], number)
    return _mark()


def _mark() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
