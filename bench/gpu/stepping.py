"""T4: the compiled step computes what the eager one does, compiles once, waits for nothing, and resumes bit for bit."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import torch
from torch import Tensor
from torch._dynamo.utils import counters

from bench.gpu import pictures, sources, workload
from bench.gpu.findings import NEEDS_GPU, Findings, Settings
from bench.step import facts
from debiaspl.config import Science
from debiaspl.distributed import Ranks
from debiaspl.step import METRICS
from pipelines import list_images
from pipelines.batch import Batch

STEPS = 6
COMPILES, SKIPS, WAITS, MOVES = (
    "nothing is compiled after step 2",
    "no CUDA graph is skipped",
    "no step waits for the device",
    "no address changes",
)
RESUMED, FED = "a resumed run is equal bit for bit", "steps that a pipeline feeds compile nothing"
_APART = {"float32": (1e-4, 0.05), "bfloat16": (0.05, 0.3), "float16": (0.02, 0.3)}
"""Largest relative difference from eager of the first step's loss and of the last one's: rounding grows from step to
step. In low precision compared is the supervised loss, which no pseudo-label decides."""


def agrees(mode: workload.Mode, dtype: str) -> str:
    """Returns the assertion that a mode's losses are eager's."""
    return f"{mode}: agrees with eager in {dtype}"


def run(findings: Findings, settings: Settings) -> None:
    """Runs every mode in every precision, then a resumed run, then fed steps."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when CUDA starts; for the resumed run
    device = settings.device
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_gpu = device == "cuda"
    wanted = workload.science(
        "resnet18" if on_gpu else "resnet8-small", settings.count(64, 16), settings.count(8, 2), 2
    )
    _resume(findings, wanted, device)
    if not on_gpu and shutil.which(os.environ.get("CXX", "g++")) is None:
        needing_it = [agrees("compiled", "float32"), COMPILES, MOVES, FED]
        findings.not_run("there is no C++ compiler for torch.compile", needing_it)
        return
    counts = _Counts()
    for dtype in ("bfloat16", "float16", "float32") if on_gpu else ("float32",):
        compiled = _compare(
            findings, wanted, device, dtype, ("graphs", "compiled") if on_gpu else ("compiled",), counts
        )
    findings.check(COMPILES, counts.recompiled == 0, f"{counts.recompiled} graphs; {counts.breaks} graph breaks")
    findings.check(MOVES, not counts.moved, f"moved: {', '.join(counts.moved[:3]) or 'none'}")
    if on_gpu:
        skips = counters["inductor"]["cudagraph_skips"]
        findings.check(SKIPS, skips == 0, f"{skips} skips")
        findings.check(WAITS, not counts.waits, "; ".join(counts.waits) or f"{STEPS - 2} steps with sync-debug 'error'")
    else:
        low = [agrees(mode, dtype) for mode in ("compiled", "graphs") for dtype in workload.DTYPES]
        findings.not_run(NEEDS_GPU, [each for each in low if each != agrees("compiled", "float32")] + [SKIPS])
        _look_for_reads(findings, wanted)
    _feed(findings, settings, wanted, compiled)


def _look_for_reads(findings: Findings, wanted: Science) -> None:
    """Looks on pretended CUDA tensors for whatever would wait for a device."""
    if torch.version.cuda is None:
        findings.not_run("this torch is built without CUDA", [WAITS])
        return
    reads = facts.host_reads(wanted)
    findings.check(WAITS, not reads, f"on pretended CUDA tensors; reads: {', '.join(reads) or 'none'}")


class _Counts:
    """What all modes together did that they should not."""

    def __init__(self) -> None:
        self.recompiled = self.breaks = 0
        self.moved: list[str] = []
        self.waits: list[str] = []


def _compare(
    findings: Findings, wanted: Science, device: str, dtype: str, modes: Sequence[workload.Mode], counts: _Counts
) -> workload.Learner:
    """Compares each mode's losses over STEPS steps with those of the eager step; returns the last mode's learner."""
    data = workload.batches(wanted, device, STEPS)
    column = METRICS.index("total" if dtype == "float32" else "supervised")
    eager = _losses(workload.learner(wanted, device, dtype, "eager"), data, device, _Counts())[:, column]
    for mode in modes:
        torch._dynamo.reset()
        learner = workload.learner(wanted, device, dtype, mode)
        losses = _losses(learner, data, device, counts)[:, column]
        first, *_, last = ((losses - eager).abs() / eager.abs()).tolist()
        bounds = _APART[dtype]
        findings.check(
            agrees(mode, dtype),
            first <= bounds[0] and last <= bounds[1],
            f"step 1 apart by {first:.1e} (at most {bounds[0]:g}), step {STEPS} by {last:.1e} (at most {bounds[1]:g})",
        )
    return learner


def _losses(learner: workload.Learner, data: list[Batch], device: str, counts: _Counts) -> Tensor:
    """Returns the metrics [steps, m] on the CPU; from step 3 on, a wait for the device raises."""
    metrics, before, places = [], facts.Compiled.now(), facts.addresses(learner.state)
    try:
        for number, batch in enumerate(data):
            if number == 2:
                before, places = facts.Compiled.now(), facts.addresses(learner.state)
            with _no_waiting(device, number >= 2):
                metrics.append(learner.step([batch], number))
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        counts.waits.append(str(error).partition("\n")[0])
        metrics += [learner.step([batch], number) for number, batch in enumerate(data[len(metrics) :], len(metrics))]
    after = facts.Compiled.now()
    counts.recompiled += after.graphs - before.graphs
    counts.breaks += after.breaks - before.breaks
    counts.moved += [name for name, place in facts.addresses(learner.state).items() if places[name] != place]
    return torch.stack(metrics).double().cpu()


@contextmanager
def _no_waiting(device: str, strictly: bool) -> Iterator[None]:
    """Makes torch raise where the host waits for a GPU."""
    if device == "cpu" or not strictly:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _resume(findings: Findings, wanted: Science, device: str) -> None:
    """Compares STEPS eager steps with half of them, a snapshot, and the other half in another state."""
    data, half = workload.batches(wanted, device, STEPS), STEPS // 2
    torch.use_deterministic_algorithms(True)
    try:
        whole, first, second = (workload.learner(wanted, device, "float32", "eager") for _ in range(3))
        for number, batch in enumerate(data):
            whole.step([batch], number)
        for number in range(half):
            first.step([data[number]], number)
        workload.restore(second.state, workload.snapshot(first.state))
        for number in range(half, STEPS):
            second.step([data[number]], number)
    finally:
        torch.use_deterministic_algorithms(False)
    expected = workload.tensors(whole.state)
    wrong = [name for name, value in workload.tensors(second.state).items() if not torch.equal(value, expected[name])]
    findings.check(RESUMED, not wrong, f"{len(wrong)} of {len(expected)} tensors differ; {device}, deterministic")


def _feed(findings: Findings, settings: Settings, wanted: Science, learner: workload.Learner) -> None:
    """Goes on with a compiled step on batches of a pipeline, as a run does."""
    device = settings.device
    name = next(each for each in ("dali", "ffcv", "torchvision") if not sources.why_absent(each))
    steps = settings.count(100, 4)
    listing = list_images(pictures.corpus(settings.folder, settings.count(1600, 16)))
    losses, before = list[Tensor](), facts.Compiled.now()
    ranks = Ranks(device=torch.device(device))
    with closing(sources.run_data(name, listing, wanted, ranks, steps, compile="off").feed) as feed:
        for number, batch in enumerate(feed):
            losses.append(learner.step([batch], number)[0])
    compiled = facts.Compiled.now().graphs - before.graphs
    finite = bool(torch.stack(losses).isfinite().all())
    detail = f"{name}, {steps} steps: {compiled} new graphs, losses {'finite' if finite else 'NOT finite'}"
    findings.check(FED, compiled == 0 and finite, detail)
