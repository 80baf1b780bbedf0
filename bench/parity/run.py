"""How far every pipeline's views and every executor's operations are from Pillow's, which are the definition.

Pipelines are compared on the crops and flips of a corpus of photographs, and on the finished strong views; the
executors on all operations at all levels and signs, on equal crops. Exit status 1 where a bar is broken.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import add_corpus, add_out, command, cores, positive
from pipelines import NAMES, console
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.parity.compare import ComparedPipeline, Expected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench parity``."""
    parser.add_argument("--images", type=positive, default=96, metavar="N", help="of the corpus, 4 views each")
    parser.add_argument("--crops", type=positive, default=4, metavar="N", help="on which each operation is tried")
    parser.add_argument("--pipelines", nargs="+", choices=NAMES, metavar="NAME", help="default: all that can be opened")
    add_out(parser)
    add_corpus(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compares, writes the report, prints the tables. Returns 1 where a bar is broken."""
    import torch

    from bench import corpus, environment
    from bench.parity import picture, tables
    from bench.parity.compare import compare_executors, expect
    from bench.report import Report, publish
    from pipelines.samples.listing import list_images

    made = environment.record()
    root = corpus.build(arguments.corpus, arguments.images)
    expected = expect(list_images(root / "train"))
    compared, not_measured = _pipelines(arguments, root, expected)
    differences = [each for pipeline in compared.values() for each in pipeline.differences]
    executors = compare_executors(expected.plain[: arguments.crops, 0])
    broken = [f"BROKEN: {each.what}: {each.bar}" for each in (*differences, *executors) if not each.met]
    written = Report(
        theme="parity",
        title="Pixels against Pillow",
        command=command("parity", arguments, "images", "crops"),
        environment=made.ended(),
        settings={
            "images": arguments.images,
            "crops per operation": arguments.crops,
            "CUDA": "compared" if torch.cuda.is_available() else "none here: the device's executor ran on the CPU",
        },
        remarks=tuple(broken) or ("All bars are met.",),
        picture=picture.draw(expected, {name: each.finished for name, each in compared.items()}),
        not_measured=not_measured,
        sections=(tables.pipelines_section(differences), tables.executors_section(executors)),
        raw={
            "pipelines": [each._asdict() for each in differences],
            "operations": [each._asdict() for each in executors],
            "broken": broken,
        },
    )
    publish(written, arguments.out)
    for line in broken:
        console.say(line, error=True)
    return 1 if broken else 0


def _pipelines(
    arguments: argparse.Namespace, root: Path, expected: "Expected"
) -> tuple[dict[str, "ComparedPipeline"], dict[str, str]]:
    """Returns each pipeline's comparison, and why others were not compared; those asked for by name must open."""
    from bench.four_views import beton
    from bench.parity.compare import compare_pipeline
    from pipelines.sources.options import Resources

    compared: dict[str, ComparedPipeline] = {}
    not_measured: dict[str, str] = {}
    for name in arguments.pipelines or NAMES:
        try:
            resources = Resources(threads=cores(), beton=beton(root, cores()) if name == "ffcv" else None)
            compared[name] = compare_pipeline(name, expected, resources)
        except (UserError, ModuleNotFoundError) as error:
            if arguments.pipelines:
                raise
            not_measured[name] = str(error)
    return compared, not_measured
