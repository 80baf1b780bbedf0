"""Looks at the machine in at most 90 seconds: what it has, what it can do, what is missing, which settings follow.

The status is 1 where something would make training fail, and the last lines say what to do about it.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import STEP, add_corpus, add_out, add_threads
from pipelines import console
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.doctor.advice import Advice
    from bench.doctor.ceilings import Ceilings
    from bench.doctor.machine import Fact
    from bench.doctor.parts import Part
    from bench.environment import Environment
    from bench.report import Report

_IMAGES = 5 * STEP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench doctor``."""
    parser.add_argument("--recipe", default="imagenet-1p", metavar="NAME", help="recipe to advise on")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="data root; without it the bench's own images")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where runs are to be written"
    )
    add_threads(parser)
    add_out(parser)
    add_corpus(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the report, prints it, and returns 1 where training would fail, otherwise 0."""
    from bench import environment, samples
    from bench.doctor import advice, ceilings, machine, parts
    from bench.report import publish
    from debiaspl import recipes
    from pipelines.samples.listing import list_images

    recipes.find(arguments.recipe)
    made = environment.record(arguments.data)
    facts = machine.facts(made, arguments.runs)
    with ExitStack() as opened:
        try:
            root = samples.root_of(arguments.data, arguments.corpus, _IMAGES, opened)
        except UserError as error:
            facts.append(machine.Fact("data", "cannot be trained on", str(error)))
            root = samples.root_of(None, arguments.corpus, _IMAGES, opened)
        found = ceilings.measure(list_images(root / "train"), root, arguments.threads)
    storage = made.machine.storage.kind
    advised = advice.advise(arguments.recipe, arguments.data, found, made.gpus, storage)
    publish(_report(arguments, made.ended(), facts, found, parts.missing(), advised), arguments.out)
    problems = [fact for fact in facts if fact.problem]
    for fact in problems:
        console.say(f"TRAINING WOULD FAIL: {fact.what}: {fact.value}; {fact.problem}", error=True)
    return 1 if problems else 0


def _report(
    arguments: argparse.Namespace,
    made: "Environment",
    facts: "list[Fact]",
    found: "Ceilings",
    missing: "list[Part]",
    advised: "Advice",
) -> "Report":
    from bench.report import Report, Section

    has = [("", "here", "problem"), *((fact.what, fact.value, fact.problem or "–") for fact in facts)]
    can = [("", "at best", "unit")]
    can += [(row.what, f"{row.value:,.0f}" if not row.why_not else row.why_not, row.unit) for row in found.rows]
    parts = [("", "is for", "command"), *((part.name, part.purpose, part.command) for part in missing)]
    absent = (Section("Optional parts that are not installed", tuple(parts)),) if missing else ()
    return Report(
        theme="doctor",
        title="What this machine has and can do",
        command="python -m bench doctor",
        environment=made,
        settings={
            "images": _IMAGES,
            "threads": arguments.threads,
            "data": str(arguments.data or "the bench's own images"),
        },
        remarks=(advised.verdict, advised.command, *advised.reasons),
        sections=(
            Section("This machine", tuple(has)),
            Section("Ceilings", tuple(can), "The best of the runs of a second; each part by itself."),
            *absent,
        ),
        raw={
            "machine_facts": [fact._asdict() for fact in facts],
            "loaders": found.loaders,
            "flops": found.flops,
        },
    )
