"""Steps per second: the published habits, a bare loop beside them, and what each part of our step buys.

All contestants have the same resident batches and as many threads. Below the table: bars that were set in advance,
what can be counted, and the same step fed by a real loader. ``--trace RECIPE`` measures nothing: it adds up what a
recipe's step costs on a GPU, without one.
"""

import argparse
import os
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console

from bench import bars, corpus, environment, report
from bench.arguments import multiple_of, positive
from bench.bars import Bar
from bench.four_views import LABELED, STEP, UNLABELED, UNLABELED_VIEWS
from bench.measure import Contestant, Measurement, measure
from bench.step import contestants as parts
from bench.step import end_to_end, trace
from bench.step import facts as step_facts
from bench.step.contestants import BARE, BFLOAT16, COMPILED, LAYOUT, PARTS, PLAIN, YARDSTICK, OurStep, Run, Setting
from bench.step.picture import waterfall
from debiaspl.config import ConfigError
from debiaspl.overrides import override
from debiaspl.recipes import RECIPES, find
from pipelines.samples.listing import list_images

_WARMUP = 1
_ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101")
BARS = (
    Bar(BFLOAT16, YARDSTICK, 1.8, 2.3),
    Bar(COMPILED, YARDSTICK, 1.15, 1.3),
    Bar(PLAIN, BARE, 0.95, None, percent=True),
)
_TEACHER_CALLS = 5
_FEWEST = 2
"""Steps that the loader is measured over, at least."""
_FED_STEPS = 10
"""Of an epoch end to end."""
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench step``."""
    cores = len(os.sched_getaffinity(0))
    whole_steps = multiple_of(STEP, "the images of a step")
    parser.add_argument("--arch", choices=_ARCHITECTURES, default="resnet18", help="trunk")
    parser.add_argument("--size", type=positive, default=96, metavar="N", help="height and width of the views, pixels")
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="measured rounds, after one warm-up")
    parser.add_argument("--steps", type=positive, default=2, metavar="N", help="of each contestant in a round")
    parser.add_argument("--images", type=whole_steps, default=20 * STEP, metavar="N", help=f"a multiple of {STEP}")
    parser.add_argument("--threads", type=positive, default=cores, metavar="N", help="of the step, and of the loader")
    parser.add_argument("--out", type=Path, default=report.FOLDER, metavar="FOLDER", help="for the report")
    parser.add_argument("--corpus", type=Path, default=corpus.default_folder(), metavar="FOLDER", help="for the images")
    parser.add_argument("--trace", choices=RECIPES, metavar="RECIPE", help="only FLOPs and memory of its step on a GPU")
    parser.add_argument("--groups", type=positive, default=None, metavar="N", help="--trace: groups on that GPU (1)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="--trace: change a field of the recipe",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print the tables; or, with --trace, only print what a step costs."""
    console = Console()
    if arguments.trace:
        found = trace.trace(override(find(arguments.trace), arguments.set), arguments.groups or 1)
        report.show_table(f"A step of {arguments.trace} on one GPU (traced, not measured)", trace.table(found), console)
        return 0
    if arguments.set or arguments.groups is not None:
        raise ConfigError("--set and --groups belong to --trace RECIPE: what is measured is always the same step.")
    if arguments.images < _FEWEST * STEP:
        raise ConfigError(f"--images must be at least {_FEWEST * STEP}, {_FEWEST} steps (got {arguments.images}).")
    made = environment.record()  # first, so that the load it records is that of others
    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    try:
        written = _measure(arguments, made)
    finally:
        torch.set_num_threads(threads)
    report.show(written, console)
    measured = written.measurement
    names = [series.name for series in measured.series]
    picture = waterfall(
        [(name, _milliseconds(measured, name)) for name in PARTS if name in names],
        (BARE, _milliseconds(measured, BARE)),
        written.title,
        report.origin(written.environment),
    )
    for path in report.write(written, arguments.out, picture):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return 0


def _measure(arguments: argparse.Namespace, made: environment.Environment) -> report.Report:
    root = corpus.build(arguments.corpus, arguments.images)
    listing = list_images(root / "train")
    shared = parts.setting(arguments.arch, arguments.size, max(len(listing), parts.CLASSES))
    runs, ours, not_measured = _contestants(shared)
    print("Compiling; every contestant's first step …", file=sys.stderr)
    parts.check(runs)
    fused = ours[BFLOAT16 if BFLOAT16 in ours else COMPILED]
    contestants = [Contestant(name, parts.repeated(one, arguments.steps)) for name, one in runs.items()]
    for name in ours:
        runs[name](1)
    before, places = step_facts.Compiled.now(), step_facts.addresses(fused.state)
    measured = measure(contestants, unit="steps/s", rounds=arguments.rounds, warmup=_WARMUP)
    few = min(_FED_STEPS, len(listing) // STEP)
    with closing(end_to_end.open_sized(listing, root, arguments.size, arguments.threads, few)) as feed:
        together, share = end_to_end.together(feed, fused, parts.resident(shared, fused), arguments.rounds)
    with closing(end_to_end.open_sized(listing, root, arguments.size, arguments.threads)) as feed:
        own, waits = end_to_end.saturation(feed, arguments.rounds)
    after = step_facts.Compiled.now()
    counted = {
        "graph breaks": after.breaks,
        "recompilations after the second step, with a loader too": after.graphs - before.graphs,
        "reads by the host in a step (fake CUDA tensors)": len(step_facts.host_reads(shared.science)),
        "tensors of the state that moved": _moved(places, step_facts.addresses(fused.state)),
        "dispatcher calls of the teacher's update": len(step_facts.teacher_update_calls(fused.state, shared.science)),
    }
    rows = [*bars.rows(BARS, measured), *_counted_rows(counted), *end_to_end.rows(share, waits)]
    note = "Set in advance. Counted facts do not depend on the machine's speed; the other rows do, on its idleness too."
    sections = (
        report.Section("Bars", (bars.HEADING, *rows), note, {"counted": counted}),
        end_to_end.section(together, share, own, waits),
    )
    return _report(arguments, measured, made.ended(), not_measured, sections)


def _contestants(shared: Setting) -> tuple[dict[str, Run], dict[str, OurStep], dict[str, str]]:
    """All that run, in the table's order; our own steps among them; why others do not."""
    ours = {
        LAYOUT: parts.ours(shared, torch.float32, compile=False),
        COMPILED: parts.ours(shared, torch.float32, compile=True),
    }
    missing = parts.bf16_missing()
    if not missing:
        ours[BFLOAT16] = parts.ours(shared, torch.bfloat16, compile=True)
    runs = parts.others(shared) | {name: parts.resident(shared, step) for name, step in ours.items()}
    return runs, ours, {BFLOAT16: missing} if missing else {}


def _moved(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(old != after[name] for name, old in before.items())


def _counted_rows(counted: dict[str, int]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, number in counted.items():
        most = _TEACHER_CALLS if "calls" in name else 0
        wanted = f"≤ {most}" if most else "0"
        rows.append((name, f"{number}", f"{wanted}: {bars.verdict(number <= most)}", "–"))
    return rows


def _milliseconds(measured: Measurement, name: str) -> float:
    return 1000 / measured[name].rate.median


def _gains(measured: Measurement) -> dict[str, str]:
    """What each part buys: the ratio to the row that has one part less."""
    names = [name for name in PARTS if name in {series.name for series in measured.series}]
    pairs = pairwise(names)
    return {name: report.ratio(measured[name], measured[before], False) for before, name in pairs}


def _report(
    arguments: argparse.Namespace,
    measured: Measurement,
    made: environment.Environment,
    not_measured: dict[str, str],
    sections: tuple[report.Section, ...],
) -> report.Report:
    given = {name: getattr(arguments, name) for name in ("arch", "size", "rounds", "steps", "images", "threads")}
    return report.Report(
        theme="step",
        title=f"A training step of {arguments.arch} at {arguments.size} px on the CPU",
        command=" ".join(["python -m bench step", *(f"--{name} {value}" for name, value in given.items())]),
        measurement=measured,
        environment=made,
        settings={
            **{name: given[name] for name in ("arch", "size", "steps", "threads")},
            "step": f"{LABELED} labeled × 1 view + {UNLABELED} unlabeled × {UNLABELED_VIEWS.count} views; "
            f"{parts.CLASSES} classes; recipe imagenet-1p otherwise",
            "images of the loader's epoch": arguments.images,
            "OpenMP's waiting": ", ".join(f"{name}={os.environ[name]}" for name in _WAITING if name in os.environ),
        },
        references=(report.Reference("vs published habits", YARDSTICK), report.Reference("vs bare loop", BARE)),
        facts={
            "against the row with one part less": _gains(measured),
            "ms per step": {series.name: f"{_milliseconds(measured, series.name):,.0f}" for series in measured.series},
        },
        not_measured=not_measured,
        sections=sections,
        notes=_notes(),
    )


def _notes() -> tuple[str, ...]:
    return (
        f"{YARDSTICK}: float32 NCHW, eager, the teacher updated by a loop over state_dict, seven values read on the "
        "host, data-dependent shapes in the loss. Its images are resident as normalised floats, so it is not charged "
        "for that work, while our steps normalise uint8 themselves.",
        f"{PLAIN}: for the comparison with the bare loop alone; the rows below build on the whole yardstick.",
        f"{BARE}: torchvision's network, forward and backward on 88 views with cross-entropy, a teacher's forward on "
        "80, SGD; neither teacher update nor reads.",
        f"{LAYOUT}: from this row on the trainer's own step: uint8 normalised in the model, fused SGD and a loss of "
        "fixed shapes as well.",
        "Checked before timing: all but the bare loop find the same losses at the first step (within 5 %: dropout "
        "draws and bf16 differ). tests/bench/yardsticks/test_published_step.py compares the steps in float64.",
        f"End to end and saturation: the step is the last of the table's rows; pipeline {end_to_end.pipeline()}. The "
        "stand-in device sleeps; the ends of an epoch, where the pipeline fills and drains, are left out.",
    )
