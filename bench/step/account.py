"""The step bench's report: the table of rates, the bars, what each part buys, and the waterfall."""

import argparse
import os
from itertools import pairwise

from bench.arguments import LABELED, UNLABELED, command
from bench.environment import Environment
from bench.four_views import UNLABELED_VIEWS
from bench.measure import Measurement
from bench.report import Picture, Rates, Reference, Report, Section, origin, ratio
from bench.report.bars import HEADING, NONE, Bar, Judged, judge, verdict
from bench.step import end_to_end
from bench.step.contestants import BARE, BFLOAT16, CLASSES, COMPILED, LADDER, LAYOUT, WITHOUT_EMA, YARDSTICK
from bench.step.measuring import Found
from bench.step.picture import waterfall

STEP_BARS = (
    Bar(BFLOAT16, YARDSTICK, 1.8, 2.3),
    Bar(COMPILED, YARDSTICK, 1.15, 1.3),
    Bar(WITHOUT_EMA, BARE, 0.95, None, percent=True),
)
_TEACHER_CALLS = 5
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_NOTE = "Set in advance. Counted facts do not depend on the machine's speed; the other rows do, on its idleness too."


def report(arguments: argparse.Namespace, found: Found, made: Environment) -> Report:
    """Returns the whole report."""
    measured = found.measured
    names = ("arch", "size", "rounds", "steps", "images", "threads")
    title = f"A training step of {arguments.arch} at {arguments.size} px on the CPU"
    milliseconds = {each.name: f"{_milliseconds(measured, each.name):,.0f}" for each in measured.series}
    return Report(
        theme="step",
        title=title,
        command=command("step", arguments, *names),
        environment=made,
        settings={
            **{name: getattr(arguments, name) for name in ("arch", "size", "steps", "threads")},
            "step": f"{LABELED} labeled × 1 view + {UNLABELED} unlabeled × {UNLABELED_VIEWS.count} views; "
            f"{CLASSES} classes; recipe imagenet-1p otherwise",
            "images of the loader's epoch": arguments.images,
            "OpenMP's waiting": ", ".join(f"{name}={os.environ[name]}" for name in _WAITING if name in os.environ),
        },
        rates=Rates(
            measured,
            (Reference("vs published habits", YARDSTICK), Reference("vs bare loop", BARE)),
            {"against the row with one part less": gains(measured), "ms per step": milliseconds},
        ),
        picture=_picture(measured, title, origin(made)),
        not_measured=found.not_measured,
        sections=(
            Section("Bars", (HEADING, *_judged(found)), _NOTE, {"counted": found.counted}),
            end_to_end.section(found.together, found.share, found.loader_seconds, found.waits),
        ),
        notes=_notes(),
    )


def gains(measured: Measurement) -> dict[str, str]:
    """Returns what each part buys: the ratio to the row that has one part less."""
    pairs = pairwise(_ladder(measured))
    return {name: ratio(measured[name], measured[before], False) for before, name in pairs}


def _ladder(measured: Measurement) -> list[str]:
    names = {series.name for series in measured.series}
    return [name for name in LADDER if name in names]


def _picture(measured: Measurement, title: str, caption: str) -> Picture:
    steps = [(name, _milliseconds(measured, name)) for name in _ladder(measured)]
    return waterfall(steps, (BARE, _milliseconds(measured, BARE)), title, caption)


def _judged(found: Found) -> list[Judged]:
    counted: list[Judged] = []
    for name, number in found.counted.items():
        most = _TEACHER_CALLS if "calls" in name else 0
        wanted = f"≤ {most}" if most else "0"
        counted.append((name, f"{number}", f"{wanted}: {verdict(number <= most)}", NONE))
    return [*judge(STEP_BARS, found.measured), *counted, *end_to_end.rows(found.share, found.waits)]


def _milliseconds(measured: Measurement, name: str) -> float:
    return 1000 / measured[name].rate.median


def _notes() -> tuple[str, ...]:
    return (
        f"{YARDSTICK}: float32 NCHW, eager, the teacher updated by a loop over state_dict, seven values read on the "
        "host, data-dependent shapes in the loss. Its images are resident as normalised floats, so it is not charged "
        "for that work, while our steps normalise uint8 themselves.",
        f"{WITHOUT_EMA}: for the comparison with the bare loop alone; the rows below build on the whole yardstick.",
        f"{BARE}: torchvision's network, forward and backward on 88 views with cross-entropy, a teacher's forward on "
        "80, SGD; neither teacher update nor reads.",
        f"{LAYOUT}: from this row on the trainer's own step: uint8 normalised in the model, fused SGD and a loss of "
        "fixed shapes as well.",
        "Checked before timing: all but the bare loop find the same losses at the first step (within 5 %: dropout "
        "draws and bf16 differ). tests/bench/yardsticks/test_published_step.py compares the steps in float64.",
        f"End to end and saturation: the step is the last of the table's rows; pipeline {end_to_end.pipeline()}. The "
        "simulated device sleeps; the ends of an epoch, where the pipeline fills and drains, are left out.",
    )
