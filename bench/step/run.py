"""Steps per second: the published habits, a bare loop beside them, and what each part of our step buys.

All contestants have the same resident batches and as many threads. Below the table: bars that were set in advance,
what can be counted, and the same step fed by a real loader. ``--trace RECIPE`` measures nothing: it adds up what a
recipe's step costs on a GPU, without one.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import STEP, add_corpus, add_images, add_out, add_quick, add_rounds, add_threads, positive, quicken
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.report import Report

_ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101")
_FEWEST = 2
"""Steps that the loader is measured over, at least."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench step``."""
    parser.add_argument("--arch", choices=_ARCHITECTURES, default="resnet18", help="trunk")
    parser.add_argument("--size", type=positive, default=96, metavar="N", help="height and width of the views, pixels")
    add_rounds(parser)
    parser.add_argument("--steps", type=positive, default=2, metavar="N", help="of each contestant in a round")
    add_images(parser)
    add_threads(parser, "of the step, and of the loader")
    add_quick(parser)
    add_out(parser)
    add_corpus(parser)
    trace = parser.add_argument_group("without measuring")
    trace.add_argument("--trace", metavar="RECIPE", help="only FLOPs and memory of this recipe's step on a GPU")
    trace.add_argument("--groups", type=positive, metavar="N", help="--trace: groups on that GPU (default: 1)")
    trace.add_argument(
        "--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="--trace: change a field"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the report, prints the tables, and returns 0; with --trace it only prints a step's cost."""
    if arguments.trace:
        return _trace(arguments)
    if arguments.set or arguments.groups is not None:
        raise UserError("--set and --groups belong to --trace RECIPE: what is measured is always the same step.")
    if arguments.images < _FEWEST * STEP:
        raise UserError(f"--images must be at least {_FEWEST * STEP}, {_FEWEST} steps (got {arguments.images}).")
    import torch

    from bench import environment
    from bench.report import publish

    quicken(arguments, rounds=2, images=2 * STEP, steps=1, size=48)
    made = environment.record()  # first, so that the load it records is that of others
    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    try:
        written = _measured(arguments, made)
    finally:
        torch.set_num_threads(threads)
    publish(written, arguments.out, quick=arguments.quick)
    return 0


def _trace(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from bench.report.document import show_table
    from bench.step import trace
    from debiaspl.overrides import override
    from debiaspl.recipes import find

    found = trace.trace(override(find(arguments.trace), arguments.set), arguments.groups or 1)
    title = f"A step of {arguments.trace} on one GPU (traced, not measured)"
    show_table(title, trace.table(found), Console())
    return 0


def _measured(arguments: argparse.Namespace, made: "Environment") -> "Report":
    """Returns the report of the table, of what was counted, and of the step that is fed by a loader."""
    from bench import corpus
    from bench.step import account, measuring
    from bench.step.contestants import CLASSES, workload
    from pipelines.samples.listing import list_images

    root = corpus.build(arguments.corpus, arguments.images)
    listing = list_images(root / "train")
    shared = workload(arguments.arch, arguments.size, max(len(listing), CLASSES))
    found = measuring.everything(shared, Path(root), listing, arguments)
    return account.report(arguments, found, made.ended())
