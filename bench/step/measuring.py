"""Runs the step bench: the contestants in turns, the same step fed by a loader, and what can be counted meanwhile."""

import argparse
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch

from bench.arguments import STEP
from bench.measure import Contestant, Measurement, Spread, measure
from bench.step import contestants as made
from bench.step import end_to_end, facts
from bench.step.contestants import BFLOAT16, COMPILED, LAYOUT, OurStep, Run, Workload
from pipelines import console
from pipelines.samples.listing import Listing

_FED_STEPS = 10
"""Steps of an epoch in which loader and step run together."""


class Found(NamedTuple):
    """Everything that the report is made of."""

    measured: Measurement
    together: Measurement
    share: Spread
    """End to end's share of what loader and step allow."""
    loader_seconds: Spread
    waits: dict[float, Spread]
    counted: dict[str, int]
    not_measured: dict[str, str]


class StepRuns(NamedTuple):
    """What runs, in the table's order; our own steps among them; and why others do not run."""

    runs: dict[str, Run]
    ours: dict[str, OurStep]
    not_measured: dict[str, str]


def everything(shared: Workload, root: Path, listing: Listing, arguments: argparse.Namespace) -> Found:
    """Measures all of it; nothing may compile or move between the second step and the end, which is counted."""
    runs, ours, not_measured = contestants(shared, compile=not arguments.quick)
    console.say("Every contestant's first step; some are compiled …", error=True)
    made.check(runs)
    fused = list(ours.values())[-1]
    timed = [Contestant(name, made.repeated(one, arguments.steps)) for name, one in runs.items()]
    for name in ours:
        runs[name](1)
    before, places = facts.Compiled.now(), facts.addresses(fused.state)
    measured = measure(timed, unit="steps/s", rounds=arguments.rounds)
    few = min(_FED_STEPS, len(listing) // STEP)
    with closing(end_to_end.open_sized(listing, root, arguments.size, arguments.threads, few)) as feed:
        together, share = end_to_end.together(feed, fused, made.resident(shared, fused), arguments.rounds)
    with closing(end_to_end.open_sized(listing, root, arguments.size, arguments.threads)) as feed:
        own, waits = end_to_end.saturation(feed, arguments.rounds)
    after = facts.Compiled.now()
    compiled = {
        "graph breaks": after.breaks,
        "recompilations after the second step, with a loader too": after.graphs - before.graphs,
    }
    counted = {
        **(compiled if COMPILED in ours else {}),
        "reads by the host in a step (fake CUDA tensors)": len(facts.host_reads(shared.science)),
        "tensors of the state that moved": _moved(places, facts.addresses(fused.state)),
        "dispatcher calls of the teacher's update": len(facts.teacher_update_calls(fused.state, shared.science)),
    }
    return Found(measured, together, share, own, waits, counted, not_measured)


def contestants(shared: Workload, compile: bool) -> StepRuns:
    """Returns all that run; without ``compile`` the last rows are left out, with the reason."""
    quick = "" if compile else "--quick compiles nothing, which takes minutes"
    missing = {COMPILED: quick, BFLOAT16: quick or made.bf16_missing()}
    ours = {LAYOUT: made.ours(shared, torch.float32, compile=False)}
    for name, dtype in ((COMPILED, torch.float32), (BFLOAT16, torch.bfloat16)):
        if not missing[name]:
            ours[name] = made.ours(shared, dtype, compile=True)
    runs = made.others(shared) | {name: made.resident(shared, step) for name, step in ours.items()}
    return StepRuns(runs, ours, {name: reason for name, reason in missing.items() if reason})


def _moved(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(old != after[name] for name, old in before.items())
