"""How far every pipeline's views and every executor's operations are from Pillow's, which are the definition.

Pipelines are compared on the crops and flips of a corpus of photographs, and on the finished strong views; the
executors on all operations at all levels and signs, on equal crops. Exit status 1 where a bar is broken.
"""

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from bench import corpus, environment, report
from bench.four_views import beton
from bench.parity import picture as parity_picture
from bench.parity.compare import Comparison, Expected, Row, compare_executors, compare_pipeline, expect
from pipelines import NAMES
from pipelines.errors import UserError
from pipelines.samples.listing import list_images
from pipelines.sources.options import Resources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench parity``."""
    parser.add_argument("--images", type=int, default=96, metavar="N", help="of the corpus, 4 views each")
    parser.add_argument("--crops", type=int, default=4, metavar="N", help="on which each operation is tried")
    parser.add_argument("--pipelines", nargs="+", choices=NAMES, metavar="NAME", help="default: all that can be opened")
    parser.add_argument("--out", type=Path, default=report.FOLDER, metavar="FOLDER", help="for the report")
    parser.add_argument("--corpus", type=Path, default=corpus.default_folder(), metavar="FOLDER", help="for the images")


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the report, print the tables. Returns 1 where a bar is broken."""
    if min(arguments.images, arguments.crops) < 1:
        raise UserError(f"--images and --crops must be at least 1 (got {arguments.images}, {arguments.crops}).")
    made = environment.record()
    root = corpus.build(arguments.corpus, arguments.images)
    expected = expect(list_images(root / "train"))
    compared, not_measured = _pipelines(arguments, root, expected)
    rows = [row for each in compared.values() for row in each.rows]
    executors = compare_executors(expected.plain[: arguments.crops, 0])
    sections = [_pipeline_section(rows), _executor_section(executors)]
    broken = [f"BROKEN: {row.what}: {row.bar}" for row in (*rows, *executors) if not row.met]
    for section in sections:
        report.show_table(section.title, section.rows, console := Console())
    made = made.ended()
    picture = parity_picture.draw(expected, {name: each.finished for name, each in compared.items()})
    text = _markdown(arguments, made, sections, broken, not_measured)
    raw: dict[str, object] = {
        "environment": asdict(made),
        "pipelines": [row._asdict() for row in rows],
        "operations": [row._asdict() for row in executors],
        "not_measured": not_measured,
        "broken": broken,
    }
    for path in report.write_files(arguments.out, _stem(made), raw, picture, text):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    for line in (*(f"Not measured: {name}: {why}" for name, why in not_measured.items()), *broken):
        print(line, file=sys.stderr)
    return 1 if broken else 0


def _pipelines(
    arguments: argparse.Namespace, root: Path, expected: Expected
) -> tuple[dict[str, Comparison], dict[str, str]]:
    """Each pipeline's comparison, and why others were not compared; those asked for by name must open."""
    compared: dict[str, Comparison] = {}
    not_measured: dict[str, str] = {}
    threads = len(os.sched_getaffinity(0))
    for name in arguments.pipelines or NAMES:
        try:
            resources = Resources(threads=threads, beton=beton(root, threads) if name == "ffcv" else None)
            compared[name] = compare_pipeline(name, expected, resources)
        except (UserError, ModuleNotFoundError) as error:
            if arguments.pipelines:
                raise
            not_measured[name] = str(error)
    return compared, not_measured


def _pipeline_section(rows: list[Row]) -> report.Section:
    header = ("", "views", "largest", "3 px from the edge", "mean", "bytes that differ", "bar", "")
    cells = [
        (
            *(row.what, str(row.views), str(row.largest), str(row.inner), f"{row.mean:.4f}", f"{row.differing:.2%}"),
            *(row.bar, "met" if row.met else "BROKEN"),
        )
        for row in rows
    ]
    return report.Section("Pipelines against Pillow, grey levels", (header, *cells))


def _executor_section(rows: list[Row]) -> report.Section:
    """A row for each operation, two columns for each executor."""
    executors = list(dict.fromkeys(row.what.split(": ")[0] for row in rows))
    operations = list(dict.fromkeys(row.what.split(": ")[1] for row in rows))
    found = {row.what: row for row in rows}
    header = ("operation", *(heading for name in executors for heading in (f"{name}: largest", "mean")), "views each")
    cells = []
    for operation in operations:
        of = [found[f"{name}: {operation}"] for name in executors]
        cells.append(
            (operation, *(cell for row in of for cell in (str(row.largest), f"{row.mean:g}")), str(of[0].views))
        )
    return report.Section(
        "Operations against Pillow on equal crops, all levels and signs, grey levels", (header, *cells)
    )


def _stem(made: environment.Environment) -> str:
    return f"parity_{made.hardware}_{made.date[:10]}"


def _markdown(
    arguments: argparse.Namespace,
    made: environment.Environment,
    sections: list[report.Section],
    broken: list[str],
    not_measured: dict[str, str],
) -> str:
    tables = "\n\n".join(f"## {section.title}\n\n{report.markdown_table(section.rows)}" for section in sections)
    absent = "".join(f"Not measured: {name}: {why}\n\n" for name, why in not_measured.items())
    settings: dict[str, str | int | float] = {
        "images": arguments.images,
        "crops per operation": arguments.crops,
        "CUDA": "compared" if torch.cuda.is_available() else "none here: the device's executor ran on the CPU",
    }
    command = f"python -m bench parity --images {arguments.images} --crops {arguments.crops}"
    verdict = "\n".join(f"- **{line}**" for line in broken) or "All bars are met."
    return (
        f"# Pixels against Pillow\n\n{report.origin(made)}.\n\n{verdict}\n\n{tables}\n\n{absent}"
        f"![The four views of some images from each pipeline]({_stem(made)}.png)\n\n"
        f"Raw numbers: [{_stem(made)}.json]({_stem(made)}.json)\n\n"
        f"## Conditions\n{report.conditions(made, command, settings)}\n"
    )
