"""Accuracy of the demo over seeds: supervised, FixMatch and DebiasPL with the same steps, and DebiasPL per pipeline.

A seed chooses the labeled images, which digit is common, the initial weights and every crop. Each run is the command
that a user would type, in a process of its own; its result is the balanced accuracy of the last epoch's student.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.arguments import add_out
from pipelines import NAMES
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.report import Picture, Report

_ROOT = Path(__file__).parents[1]
METHODS = {"supervised only": "demo-supervised", "FixMatch": "demo-fixmatch", "DebiasPL": "demo"}
"""Name in the report → recipe."""


class Training(NamedTuple):
    """One training."""

    name: str
    recipe: str
    pipeline: str
    seed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench demo``."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="one training each")
    parser.add_argument(
        "--pipelines",
        nargs="+",
        choices=NAMES,
        default=list(NAMES),
        metavar="NAME",
        help="the methods are compared on the first, DebiasPL also on the others",
    )
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="handed to every training")
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trains every method, writes the report, prints the table, and returns 0."""
    from tqdm import tqdm

    from bench import environment
    from bench.report import publish

    made = environment.record()
    runs = _trainings(arguments.pipelines, arguments.seeds)
    results: dict[str, list[float]] = {each.name: [] for each in runs}
    seconds: dict[str, list[float]] = {each.name: [] for each in runs}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            _make_data(Path(folder), seed, convert="ffcv" in arguments.pipelines)
        # One run per core, of one thread each: faster than one after another, and free of a core count's rounding.
        with ThreadPoolExecutor(made.cores) as pool:
            done = pool.map(lambda each: _train(each, Path(folder), arguments.set), runs)
            for each, (accuracy, took) in zip(runs, tqdm(done, "trainings", len(runs), unit=" runs"), strict=True):
                results[each.name].append(accuracy)
                seconds[each.name].append(took)
    publish(_report(arguments, made.ended(), results, seconds), arguments.out)
    return 0


def _trainings(pipelines: list[str], seeds: list[int]) -> list[Training]:
    """Returns the trainings of every seed: all methods on the first pipeline, DebiasPL on the others."""
    first, *others = pipelines
    names = {(name, first): recipe for name, recipe in METHODS.items()}
    names |= {("DebiasPL", pipeline): METHODS["DebiasPL"] for pipeline in others}
    return [
        Training(f"{name}, {pipeline}", recipe, pipeline, seed)
        for seed in seeds
        for (name, pipeline), recipe in names.items()
    ]


def _train(each: Training, folder: Path, assignments: list[str]) -> tuple[float, float]:
    """Returns the balanced accuracy (percent) of the last epoch's student, and the seconds that training took."""
    data, out = folder / f"data-{each.seed}", folder / f"{each.recipe}-{each.pipeline}-{each.seed}"
    given = (f"science.seed={each.seed}", "engine.threads=1", *assignments)
    sets = [word for assignment in given for word in ("--set", assignment)]
    where = ["--recipe", each.recipe, "--pipeline", each.pipeline, "--data", data, "--out", out]
    _python("-m", "debiaspl.train", *where, *sets)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluated = [row for row in rows if "val/student_balanced" in row]
    return evaluated[-1]["val/student_balanced"], _trained_seconds(rows)


def _make_data(folder: Path, seed: int, *, convert: bool) -> None:
    data = folder / f"data-{seed}"
    _python("tools/make_demo_data.py", "--out", data, "--seed", seed)
    if convert:
        _python("tools/convert_imagenet_to_ffcv.py", "--data", data)


def _trained_seconds(rows: list[dict[str, float]]) -> float:
    """Returns the time in training epochs, from the rate and the number of images of each epoch's last reading."""
    total, before = 0.0, 0.0
    last_of_epoch = [row for row, after in zip(rows, [*rows[1:], {}], strict=True) if "val/student_top1" in after]
    for row in last_of_epoch:
        total += (row["step"] - before) / row["speed/steps_per_s"]
        before = row["step"]
    return total


def _python(*words: object) -> None:
    """Runs a Python command from the repository's root; raises UserError with its output where it fails."""
    command = [sys.executable, *map(str, words)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=_ROOT, env=alone, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _report(
    arguments: argparse.Namespace,
    made: "Environment",
    results: dict[str, list[float]],
    seconds: dict[str, list[float]],
) -> "Report":
    from bench.report import Report, Section

    rows = [
        (name, f"{statistics.mean(values):.1f}", f"{min(values):.1f}–{max(values):.1f}", _listed(values))
        for name, values in results.items()
    ]
    heading = ("", "balanced accuracy, mean %", "range", "each seed")
    return Report(
        theme="demo",
        title=f"The demo over seeds {_listed(arguments.seeds, digits=0)}",
        command=_command(arguments),
        environment=made,
        settings={"seeds": _listed(arguments.seeds, digits=0), "pipelines": ", ".join(arguments.pipelines)},
        picture=_chart(results),
        sections=(Section("Balanced accuracy of the last epoch's student", (heading, *rows)),),
        raw={"seeds": arguments.seeds, "balanced_accuracy_percent": results, "seconds_per_run": seconds},
    )


def _command(arguments: argparse.Namespace) -> str:
    words = ["python -m bench demo"]
    words += ["--seeds", *map(str, arguments.seeds), "--pipelines", *arguments.pipelines]
    return " ".join([*words, *(f"--set {assignment}" for assignment in arguments.set)])


def _listed(values: list[float], digits: int = 1) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _chart(results: dict[str, list[float]]) -> "Picture":
    """Draws a bar for each mean and a dot for each seed; DebiasPL is blue."""
    from bench.report import Picture, chart

    unit = "balanced accuracy on the validation digits, % (dots: seeds)"
    figure, axes = chart.horizontal_bars(list(results), unit, "The demo, last epoch's student")
    for row, (name, values) in enumerate(results.items()):
        colour = chart.BLUE if name.startswith("DebiasPL") else chart.GREY
        axes.barh(row, statistics.mean(values), color=colour, height=0.6)
        axes.plot(values, [row] * len(values), "o", color="black", markersize=4)
    low = min(min(values) for values in results.values())
    axes.set_xlim(max(0, 10 * (low // 10) - 10), 100)
    return Picture("Mean accuracy of each method, a dot for each seed", chart.png(figure))
