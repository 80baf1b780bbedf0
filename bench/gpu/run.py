"""All that a GPU still has to prove, in ten minutes: equality, damage, compilation, speed, memory, several ranks.

Each part runs in a process of its own, and a report is written after each. Needs torch, numba and Pillow; what DALI,
ffcv and further packages are needed for is not run without them. Without a GPU the parts run as far as a CPU can.
"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import add_out, positive

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.gpu.findings import Part, Settings
    from bench.gpu.report import PartResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench gpu``."""
    parser.add_argument("--minutes", type=positive, default=10, metavar="N", help="time for all parts together")
    parser.add_argument("--parts", nargs="+", metavar="NAME", help="only these, such as T1 T3 (default: all)")
    parser.add_argument("--quick", action="store_true", help="few images and steps: whether it works, not how well")
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the parts, writes the report after each, and returns 0: what was missed is in the report."""
    import time

    import torch  # noqa: F401  # once, before the forks; it does not touch CUDA

    from bench.gpu.findings import Settings
    from bench.gpu.report import Report, said, write
    from pipelines import console

    parts = chosen(arguments.parts)
    deadline = time.monotonic() + 60 * arguments.minutes
    report = Report(_command(arguments), _environment())
    with tempfile.TemporaryDirectory(prefix="debiaspl-gpu-") as folder:
        settings = Settings(Path(folder), arguments.quick)
        for number, part in enumerate(parts):
            share = part.minutes / sum(later.minutes for later in parts[number:])
            seconds = max(1.0, share * (deadline - time.monotonic()))
            console.say(f"{part.name} {part.title}, at most {seconds:.0f} s", error=True)
            report.parts.append(_one(part, settings, seconds))
            paths = write(report, arguments.out)
    console.say(said(report))
    for path in paths:
        console.say(str(path))
    return 0


def chosen(names: list[str] | None) -> "list[Part]":
    """Returns the parts of these names, in their order, or all. Raises UserError for a name that is none."""
    from bench.gpu.parts import PARTS
    from pipelines.errors import UserError

    known = [part.name for part in PARTS]
    if unknown := [name for name in names or [] if name not in known]:
        raise UserError(f"There is no part {unknown[0]!r}; --parts takes some of {', '.join(known)}.")
    return [part for part in PARTS if not names or part.name in names]


def _command(arguments: argparse.Namespace) -> str:
    words = ["python -m bench gpu", f"--minutes {arguments.minutes}"]
    words += [f"--parts {' '.join(arguments.parts)}"] if arguments.parts else []
    return " ".join([*words, *(["--quick"] if arguments.quick else [])])


def _environment() -> "Environment":
    from bench import environment
    from bench.gpu.processes import forked

    found: list[Environment] = list(forked(lambda hand_on: hand_on(environment.record()), seconds=120))
    return found[0]


def _one(part: "Part", settings: "Settings", seconds: float) -> "PartResult":
    """Runs a part; what it does not come to is noted as not run, with the reason."""
    import time
    from importlib import import_module

    from bench.gpu.findings import Check, Findings, Found
    from bench.gpu.processes import Ended, forked
    from bench.gpu.report import PartResult, line
    from pipelines import console

    found: list[Found] = []
    begin, reason = time.monotonic(), "the part ended without it"
    try:
        for each in forked(lambda out: import_module(part.module).run(Findings(out), settings), seconds):
            found.append(each)
            console.say(f"  {line(each)}", error=True)
    except Ended as error:
        reason = str(error)
        console.say(f"  {part.name} ended early: {reason}", error=True)
    reached = {each.what for each in found}
    found += [Check(what, "not run", reason) for what in part.checks if what not in reached]
    return PartResult(part.name, part.title, time.monotonic() - begin, found)
