"""Accuracy of the demo over seeds: supervised, FixMatch and DebiasPL with the same steps, and DebiasPL per pipeline.

A seed chooses the labeled images, which digit is common, the initial weights and every crop. The trainings are those of
``debiaspl compare``, each seed with data of its own; a result is the balanced accuracy of the last epoch's student.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import add_out
from pipelines import NAMES

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.report import Picture, Report

METHODS = {"supervised": "supervised only", "fixmatch": "FixMatch", "debiaspl": "DebiasPL"}
"""A method of ``debiaspl compare`` → its name in the report."""
METRIC = "student_balanced"


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
    from bench import environment
    from bench.report import publish

    made = environment.record()
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            make_data(Path(folder), seed, convert="ffcv" in arguments.pipelines)
        for pipeline in arguments.pipelines:
            methods = list(METHODS) if pipeline == arguments.pipelines[0] else ["debiaspl"]
            results |= _accuracies(Path(folder), pipeline, methods, arguments, made.cores)
    publish(_report(arguments, made.ended(), results), arguments.out)
    return 0


def _accuracies(
    folder: Path, pipeline: str, methods: list[str], arguments: argparse.Namespace, jobs: int
) -> dict[str, list[float]]:
    """Returns, for each method on a pipeline, the accuracy with each seed in percent."""
    from debiaspl import compare
    from debiaspl.comparison.trainings import SEED, trainings

    flags = ["--recipe", "demo", "--pipeline", pipeline, "--data", str(folder / f"data-{SEED}")]
    wanted = trainings(methods, arguments.seeds, folder / pipeline, flags, arguments.set)
    found = compare.finish(wanted, METRIC, jobs)
    return {
        f"{METHODS[method]}, {pipeline}": [found[each].value for each in wanted if each.method == method]
        for method in methods
    }


def make_data(folder: Path, seed: int, *, convert: bool) -> None:
    """Makes the digits of a seed, and converts them for the ffcv pipeline."""
    from debiaspl.commands import convert as converter
    from debiaspl.commands import demo_data

    data = folder / f"data-{seed}"
    demo_data.main(["--out", str(data), "--seed", str(seed)])
    if convert:
        converter.main(["--data", str(data)])


def _report(
    arguments: argparse.Namespace,
    made: "Environment",
    results: dict[str, list[float]],
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
        raw={"seeds": arguments.seeds, "balanced_accuracy_percent": results},
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
