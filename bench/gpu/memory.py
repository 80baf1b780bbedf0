"""T6: what each pipeline takes of the device's memory, whether that grows, and whether an evaluation builds anew."""

from contextlib import closing
from typing import Any
from unittest import mock

import torch

from bench.gpu import pictures, sources
from bench.gpu.findings import NEEDS_GPU, Findings, Settings
from pipelines import NAMES, EvaluationView, Listing, TrainingViews, list_images
from pipelines.batch import Source

GROWTH, SHARE, ONCE = (
    "a pipeline's memory does not grow",
    "DALI takes less than 1.5 GiB",
    "the second evaluation builds nothing",
)
_MIB = 2**20
_GROWTH_BOUND, _SHARE_BOUND = 64 * _MIB, 1536 * _MIB


def run(findings: Findings, settings: Settings) -> None:
    """Measures training sources of 50 and evaluations of 300 images a batch, then evaluates twice."""
    listing = list_images(pictures.corpus(settings.folder, settings.count(600, 16)))
    if settings.device == "cuda":
        _measure(findings, listing)
    else:
        findings.not_run(NEEDS_GPU, (GROWTH, SHARE))
    if absent := sources.why_absent("dali"):
        findings.not_run(absent, [ONCE])
    else:
        _evaluate_twice(findings, listing, settings)


def _measure(findings: Findings, listing: Listing) -> None:
    """Never run on a GPU so far."""
    grown, dali = dict[str, int](), 0
    for name in NAMES:
        if absent := sources.why_absent(name):
            findings.number(f"{name}, device memory", absent)
            continue
        for batch, source in (
            (50, sources.training(name, listing, "cuda", 50, 4, TrainingViews(weak=2, strong=2))),
            (300, sources.evaluation(name, listing, "cuda", 300)),
        ):
            torch.cuda.empty_cache()
            before, torchs = _used(), torch.cuda.memory_reserved()
            with closing(source):
                first, second, third = (_after_an_epoch(source) for _ in range(3))
                own = _used() - before - (torch.cuda.memory_reserved() - torchs)
            grown[f"{name} at {batch}"] = third - second
            dali = max(dali, own) if name == "dali" else dali
            findings.number(
                f"{name} at batch {batch}, device memory",
                f"{(first - before) / _MIB:.0f} MiB after one epoch, {(third - before) / _MIB:.0f} after three, "
                f"{own / _MIB:.0f} of it not torch's",
            )
    worst = max(grown, key=lambda name: grown[name])
    findings.check(GROWTH, grown[worst] < _GROWTH_BOUND, f"{worst}: {grown[worst] / _MIB:.0f} MiB in the third epoch")
    if any(name.startswith("dali") for name in grown):
        findings.check(SHARE, dali < _SHARE_BOUND, f"{dali / _MIB:.0f} MiB beside torch's own")
    else:
        findings.not_run(sources.why_absent("dali"), [SHARE])


def _used() -> int:
    """Returns the bytes of the device that anybody uses."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free


def _after_an_epoch(source: Source) -> int:
    for views in source:
        views.pixels.sum()
    return _used()


def _evaluate_twice(findings: Findings, listing: Listing, settings: Settings) -> None:
    """Counts the DALI pipelines that three evaluations build, each of which begins as a run's does."""
    from pipelines.sources.dali_graph import build

    built: list[Any] = []

    def counting(*given: Any) -> Any:
        built.append(build(*given))
        return built[-1]

    batch, size = settings.count(300, 8), settings.count(224, 64)
    with mock.patch("pipelines.sources.dali_source.build", counting):
        source = sources.evaluation("dali", listing, settings.device, batch, EvaluationView(size=size, resize=size))
        with closing(source):
            for _ in range(3):
                source.seek(0, 0)
                for _ in source:
                    pass
    findings.check(ONCE, len(built) == 1, f"{len(built)} DALI pipelines for three evaluations")
