"""Says whether training is bound by its input or by its step, on this machine, with your recipe, data and pipeline.

Loader alone, step alone on replayed batches, and both together run in turns, each in a process of its own. The last
line is INPUT-BOUND, LEANING ON INPUT, STEP-BOUND or INCONCLUSIVE, with the stage and the change that would help most.
--ranks N also runs the step on N devices at once, each by itself, and names one that the others would wait for.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.arguments import add_out, add_quick, add_rounds, positive
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.report import Report
    from bench.verdict.judge import Measured, Setting

_QUICK_ROUNDS, _QUICK_SECONDS = 3, 1
_ROOT = Path(__file__).parents[2]
_PART = ("-m", "bench.verdict.part")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench train``."""
    parser.add_argument("--recipe", default="demo", metavar="NAME", help="as debiaspl.train has it")
    parser.add_argument("--pipeline", metavar="NAME", help="as debiaspl.train has it; otherwise the recipe's")
    parser.add_argument("--data", metavar="FOLDER", help="as debiaspl.train has it; otherwise the recipe's")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="change a field")
    parser.add_argument("--ranks", type=positive, default=1, metavar="N", help="devices whose steps are compared")
    add_rounds(parser, 5)
    parser.add_argument("--seconds", type=positive, default=5, metavar="N", help="for which each part is measured")
    add_quick(parser)
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the report, prints the tables with the verdict as their last line, and returns 0."""
    from bench import environment
    from bench.report import publish

    made = environment.record(Path(arguments.data) if arguments.data else None)
    if arguments.quick:
        arguments.rounds, arguments.seconds = _QUICK_ROUNDS, _QUICK_SECONDS
    with ExitStack() as opened:
        words = _words(arguments, arguments.data or _made_data(arguments, opened))
        publish(_measured(arguments, words, made), arguments.out)
    return 0


def _made_data(arguments: argparse.Namespace, opened: ExitStack) -> str | None:
    """Returns a folder with the demo's images, made for this, where its recipe is measured and they are nowhere."""
    from bench.demo import make_data
    from debiaspl import recipes, train
    from pipelines import console

    if arguments.recipe != "demo":
        return None
    data = train.chosen_recipe(train.build_parser().parse_args(_words(arguments, None))).engine.data
    if data != recipes.find("demo").engine.data or Path(data).exists():
        return None
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    console.say(f"There is no {data}: the demo's images are made for this, and removed at the end.", error=True)
    make_data(folder, 0, convert=True)
    return str(folder / "data-0")


def _measured(arguments: argparse.Namespace, words: list[str], made: "Environment") -> "Report":
    """Measures all parts in turns, each with these ``words`` for its trainer, and returns the report."""
    from bench.verdict.judge import Measured, Setting
    from bench.verdict.timing import Timed

    found: dict[str, list[Timed]] = {"loader": [], "again": [], "step": [], "both": []}
    setting: dict[str, Any] = {}
    for part in _turns(arguments.rounds):
        (answer,) = _part(part, arguments.seconds, words)
        setting = answer["setting"]
        for name, values in answer["timed"].items():
            found[name].append(Timed(*values))
    measured = Measured(found["loader"], found["again"], found["step"], found["both"], _ranks(arguments, words))
    return _report(arguments, measured, Setting(**setting), made.ended())


def _turns(rounds: int) -> list[str]:
    """Returns the parts in the order in which they run, with a progress bar."""
    from bench.measure import turns
    from bench.verdict.part import PARTS

    return [PARTS[which] for round_ in range(rounds) for which in turns(len(PARTS), round_)]


def _words(arguments: argparse.Namespace, data: str | None) -> list[str]:
    words = ["--recipe", arguments.recipe]
    words += ["--pipeline", arguments.pipeline] if arguments.pipeline else []
    words += ["--data", data] if data else []
    return words + [word for field in arguments.set for word in ("--set", field)]


def _ranks(arguments: argparse.Namespace, words: list[str]) -> list[float]:
    """Returns the seconds of each rank's step, the median over the rounds; nothing where there is one rank only."""
    if arguments.ranks == 1:
        return []
    rounds = [_part("step", arguments.seconds, words, arguments.ranks) for _ in range(arguments.rounds)]
    seconds = [[answer["timed"]["step"][0] for answer in answers] for answers in rounds]
    return [median(each) for each in zip(*seconds, strict=True)]


def _part(part: str, seconds: float, words: list[str], ranks: int = 1) -> list[dict[str, Any]]:
    """Returns what a part's process saw, or several at once, each on its own device with its share of the cores.

    These do not meet: in a collective all would take as long as the slowest. Raises UserError with a process's message
    where it failed.
    """
    command = [sys.executable, *_PART, part, str(seconds), *words]
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    alone = {"PYTHONPATH": path, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_WORLD_SIZE": str(ranks)}
    with ExitStack() as opened:
        running = []
        for rank in range(ranks):
            environment = os.environ | alone | {"LOCAL_RANK": str(rank)}
            process = subprocess.Popen(
                command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            running.append(opened.enter_context(process))
            opened.callback(process.kill)  # where another one failed
        return [_answer(part, process) for process in running]


def _answer(part: str, process: "subprocess.Popen[str]") -> dict[str, Any]:
    said, error = process.communicate()
    if process.returncode:
        raise UserError(f"The {part} could not be measured: {error.strip()[-2000:].removeprefix('error: ')}")
    answer: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return answer


def _report(arguments: argparse.Namespace, measured: "Measured", setting: "Setting", made: "Environment") -> "Report":
    from bench.arguments import STEP
    from bench.measure import Spread
    from bench.report import Report, Section
    from bench.report.contents import number
    from bench.verdict.judge import judge

    verdict, words = judge(measured, setting), _words(arguments, arguments.data)
    parts = ("loader", "again", "step", "both")
    names = ("loader alone", "the same files again", "step alone, replayed batches", "both together")
    rows: list[tuple[str, ...]] = [("", "ms a step", "IQR", "images/s", "cores busy")]
    for name, timed in zip(names, measured[:4], strict=True):
        ms = Spread.of([1000 * each.seconds for each in timed])
        busy = Spread.of([each.busy for each in timed])
        spread = f"{number(ms.low)}–{number(ms.high)}"
        rows.append((name, number(ms.median), spread, number(1000 * STEP / ms.median), f"{busy.median:.2f}"))
    cold = measured.loader[0].seconds / measured.again[0].seconds
    note = f"The first reading of all took {cold:.2f} times as long as the second, whose files were in memory."
    if measured.ranks:
        steps = ", ".join(f"rank {rank}: {number(1000 * each)} ms" for rank, each in enumerate(measured.ranks))
        note += f" Steps of all ranks at once, each by itself: {steps}."
    return Report(
        theme="train",
        title=f"Loader and step of recipe {arguments.recipe}",
        command=f"python -m bench train {' '.join(words)} --ranks {arguments.ranks} "
        f"--rounds {arguments.rounds} --seconds {arguments.seconds}",
        environment=made,
        settings={
            "recipe": " ".join(words),
            **setting._asdict(),
            "seconds": arguments.seconds,
            "ranks": arguments.ranks,
        },
        remarks=(str(verdict),),
        sections=(Section("A step of one group", tuple(rows), note),),
        notes=(f"{arguments.rounds} rounds; each part of a round in a process of its own.",),
        raw={
            "verdict": verdict._asdict(),
            "timed": {
                part: [each._asdict() for each in timed] for part, timed in zip(parts, measured[:4], strict=True)
            },
            "ranks": list(measured.ranks),
        },
        quick=arguments.quick,
    )
