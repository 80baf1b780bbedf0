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
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from bench import environment
from bench.report import FOLDER
from pipelines import NAMES
from pipelines.errors import UserError
from pipelines.files import replacing

_ROOT = Path(__file__).parents[1]
METHODS = {"supervised only": "demo-supervised", "FixMatch": "demo-fixmatch", "DebiasPL": "demo"}
"""Name in the report → recipe."""


class Run(NamedTuple):
    """One training."""

    name: str
    recipe: str
    pipeline: str
    seed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench demo``."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--pipelines", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="handed to every training")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="for the report")


def run(arguments: argparse.Namespace) -> int:
    """Train, write the report, print the table."""
    made = environment.record()
    # The methods are compared on the first pipeline, the pipelines by DebiasPL.
    first, *others = arguments.pipelines
    names = {(name, first): recipe for name, recipe in METHODS.items()}
    names |= {("DebiasPL", pipeline): METHODS["DebiasPL"] for pipeline in others}
    runs = [
        Run(f"{name}, {pipeline}", recipe, pipeline, seed)
        for seed in arguments.seeds
        for (name, pipeline), recipe in names.items()
    ]
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
    content = {
        "command": " ".join(["python -m bench demo", *(f"--set {assignment}" for assignment in arguments.set)]),
        "environment": asdict(made.ended()),
        "seeds": arguments.seeds,
        "balanced_accuracy_percent": results,
        "seconds_per_run": seconds,
    }
    paths = _write(content, arguments.out / f"demo_{made.hardware}_{made.date[:10]}")
    _show(results)
    print(f"report: {', '.join(str(path) for path in paths)}")
    return 0


def _train(each: Run, folder: Path, assignments: list[str]) -> tuple[float, float]:
    """Balanced accuracy (percent) of the last epoch's student, and the seconds that training took."""
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
    """Time in training epochs, from the rate and the number of images of each epoch's last reading."""
    total, before = 0.0, 0.0
    last_of_epoch = [row for row, after in zip(rows, [*rows[1:], {}], strict=True) if "val/student_top1" in after]
    for row in last_of_epoch:
        total += (row["step"] - before) / row["speed/steps_per_s"]
        before = row["step"]
    return total


def _python(*words: object) -> None:
    """Run a Python command from the repository's root; raises UserError with its output where it fails."""
    command = [sys.executable, *map(str, words)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=_ROOT, env=alone, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _rows(results: dict[str, list[float]]) -> list[tuple[str, str, str, str]]:
    return [
        (name, f"{statistics.mean(values):.1f}", f"{min(values):.1f}–{max(values):.1f}", _listed(values))
        for name, values in results.items()
    ]


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


_HEADINGS = ("", "balanced accuracy, mean %", "range", "each seed")


def _show(results: dict[str, list[float]]) -> None:
    table = Table(title="The demo, last epoch's student")
    for heading in _HEADINGS:
        table.add_column(heading)
    for row in _rows(results):
        table.add_row(*row)
    Console(highlight=False).print(table)


def _write(content: dict[str, object], stem: Path) -> list[Path]:
    """The report's JSON, Markdown and picture."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[float]] = content["balanced_accuracy_percent"]  # type: ignore[assignment]
    made: dict[str, object] = content["environment"]  # type: ignore[assignment]
    lines = ["| " + " | ".join(row) + " |" for row in (_HEADINGS, ("---",) * 4, *_rows(results))]
    conditions = "\n".join(
        f"- {name}: {made[name]}" for name in ("cpu", "cores", "versions", "commit", "dirty", "date")
    )
    text = (
        f"# The demo over seeds {content['seeds']}\n\n" + "\n".join(lines) + f"\n\n![]({stem.name}.png)\n\n"
        f"Command: `{content['command']}`. Raw numbers: [{stem.name}.json]({stem.name}.json)\n\n{conditions}\n"
    )
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("json", "md", "png")]
    with replacing(paths[0]) as building:
        building.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with replacing(paths[1]) as building:
        building.write_text(text, encoding="utf-8")
    with replacing(paths[2]) as building:
        _chart(results).savefig(building, format="png")
    return paths


def _chart(results: dict[str, list[float]]) -> Figure:
    """A dot per seed, a bar per mean."""
    figure = Figure(figsize=(8, 1 + 0.5 * len(results)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for row, values in enumerate(results.values()):
        axes.barh(row, statistics.mean(values), color="#9aa5b1" if row < len(METHODS) - 1 else "#2c6fbb", height=0.6)
        axes.plot(values, [row] * len(values), "o", color="black", markersize=4)
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    low = min(min(values) for values in results.values())
    axes.set_xlim(max(0, 10 * (low // 10) - 10), 100)
    axes.set_xlabel("balanced accuracy on the validation digits, % (dots: seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
