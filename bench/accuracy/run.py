"""Measures the seconds that the demo takes to a balanced accuracy, with our loader and step and with published habits.

The habits are a DataLoader with Pillow and float images, and an eager float32 step that reads its values. Both train
the same recipe from the same weights, in turns, each in a process of its own; every seed has digits of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.arguments import add_out
from pipelines import NAMES
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.accuracy.part import Reached
    from bench.environment import Environment
    from bench.report import Picture, Report

_ROOT = Path(__file__).parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench accuracy``."""
    parser.add_argument("--target", type=_percent, default=88.0, metavar="PERCENT", help="balanced accuracy to reach")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="a pair of trainings each")
    parser.add_argument("--pipeline", choices=NAMES, default="ffcv", help="ours")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="handed to every training")
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trains all, writes the report, prints the table, and returns 0."""
    from tqdm import tqdm

    from bench import environment
    from bench.accuracy.contestants import CONTESTANTS
    from bench.demo import make_data
    from bench.measure import turns
    from bench.report import publish

    made = environment.record()
    names = list(CONTESTANTS)
    found: dict[str, list[Reached]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        bar = tqdm(total=len(names) * len(arguments.seeds), unit=" trainings", disable=None)
        for round_, seed in enumerate(arguments.seeds):
            make_data(Path(folder), seed, convert=arguments.pipeline == "ffcv")
            for which in turns(len(names), round_):
                bar.set_description(f"seed {seed}, {names[which]}")
                words = _words(arguments, names[which], seed, Path(folder, f"data-{seed}"))
                found[names[which]].append(trained(names[which], arguments.target, words))
                bar.update()
        bar.close()
    publish(report(arguments, found, made.ended()), arguments.out)
    return 0


def trained(contestant: str, target: float, words: Sequence[str]) -> "Reached":
    """Returns what a training in a process of its own came to; raises UserError with its message where it failed."""
    from bench.accuracy.part import Reached

    command = [sys.executable, "-m", "bench.accuracy.part", contestant, str(target), *words]
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    if done.returncode:
        raise UserError(f"{contestant} could not be trained: {done.stderr.strip()[-2000:].removeprefix('error: ')}")
    return Reached(**json.loads(done.stdout.strip().splitlines()[-1]))


def report(arguments: argparse.Namespace, found: "Mapping[str, Sequence[Reached]]", made: "Environment") -> "Report":
    """Returns the report: seconds and epochs of each contestant and seed, and the ratio of those that both reached."""
    from bench.report import Report, Section

    rows: list[tuple[str, ...]] = [("", "median s", "seconds of each seed", "epochs")]
    for name, each in found.items():
        seconds = [one.seconds for one in each if one.reached]
        middle = f"{median(seconds):.1f}" if seconds else "–"
        epochs = ", ".join(str(len(one.curve)) for one in each)
        rows.append((name, middle, ", ".join(map(_seconds, each)), epochs))
    title = f"Seconds to {arguments.target:g} % of the demo"
    return Report(
        theme="accuracy",
        title=title,
        command=_command(arguments),
        environment=made,
        settings={
            "target": arguments.target,
            "seeds": ", ".join(map(str, arguments.seeds)),
            "pipeline": arguments.pipeline,
            "set": ", ".join(arguments.set) or "nothing",
        },
        remarks=(verdict(found, arguments.target),),
        picture=_picture(found, arguments.target, title),
        sections=(Section("Time to accuracy", tuple(rows)),),
        notes=(
            "The first evaluation after an epoch with a balanced accuracy of student or teacher that is high enough. "
            "The clock starts when the first batch is there; evaluations count, and are the same code for both.",
            "Seeds choose labels, tail and first weights, alike for both; crops and orders differ.",
        ),
        raw={"reached": {name: [one._asdict() for one in each] for name, each in found.items()}},
    )


def verdict(found: "Mapping[str, Sequence[Reached]]", target: float) -> str:
    """Returns how many times as fast ours is, over the seeds with which both reached the target."""
    ours, published = found.values()
    pairs = [(one, other) for one, other in zip(ours, published, strict=True) if one.reached and other.reached]
    if not pairs:
        return f"With no seed both reached {target:g} %."
    ratios = [other.seconds / one.seconds for one, other in pairs]
    return (
        f"{target:g} % is reached {median(ratios):.2f} times as fast as with the published habits "
        f"({min(ratios):.2f}–{max(ratios):.2f} over {len(pairs)} of {len(ours)} seeds)."
    )


def _picture(found: "Mapping[str, Sequence[Reached]]", target: float, title: str) -> "Picture":
    """Draws accuracy over seconds, a line for each seed."""
    from bench.report import Picture
    from bench.report.chart import BLUE, GREY, RED, line_chart, png

    figure, axes = line_chart("seconds", "balanced accuracy of the better network, %", title)
    axes.axhline(target, color=RED, linestyle="--", linewidth=1)
    for (name, each), colour in zip(found.items(), (BLUE, GREY), strict=True):
        for number, one in enumerate(each):
            axes.plot(*zip(*one.curve, strict=True), color=colour, label=name if number == 0 else None)
    axes.legend(frameon=False)
    return Picture("Accuracy over time, a line for each seed; dashed: the target", png(figure))


def _seconds(one: "Reached") -> str:
    best = max(accuracy for _, accuracy in one.curve)
    return f"{one.seconds:.1f}" if one.reached else f"not in {one.seconds:.1f} ({best:.1f} %)"


def _words(arguments: argparse.Namespace, contestant: str, seed: int, data: Path) -> list[str]:
    """Returns a training's options; the published habits evaluate with Pillow, too."""
    from bench.accuracy.contestants import OURS

    pipeline = arguments.pipeline if contestant == OURS else "torchvision"
    fields = [*arguments.set, f"science.seed={seed}"]
    words = ["--recipe", "demo", "--pipeline", pipeline, "--data", str(data)]
    return words + [word for field in fields for word in ("--set", field)]


def _command(arguments: argparse.Namespace) -> str:
    words = ["python -m bench accuracy", f"--target {arguments.target:g}", "--seeds", *map(str, arguments.seeds)]
    return " ".join([*words, f"--pipeline {arguments.pipeline}", *(f"--set {field}" for field in arguments.set)])


def _percent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"must be a percentage from 0 to 100 (got {text})")
    return number
