"""How two ranks should exchange gradients: forward and backward pass with three ways to sum them, and with none.

The ranks are two processes that share the cores and send through gloo, so the copying is real and the overlap is not
that of GPUs; for those the report adds arithmetic.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import add_out, add_quick, add_rounds, command, cores, positive, quicken
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.measure import Measurement
    from bench.report import Report, Section

WORLD = 2
RESNET50 = 25_557_032
"""Parameters of ResNet-50 with 1000 classes, of which each is a float32 gradient."""
GPUS = 8
# What a link carries in an all-reduce (nccl-tests' bus bandwidth, GB/s), and a step's time on such a machine (ms).
LINKS = {
    "NVLink 3, A100": (230, 35.9),
    "NVLink 4, H100": (360, 22.0),
    "PCIe 4.0 x16, A100": (20, 35.9),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench ranks``."""
    parser.add_argument("--arch", default="resnet18", metavar="NAME", help="network, such as resnet18 or resnet50")
    parser.add_argument("--size", type=positive, default=96, metavar="N", help="pixels")
    parser.add_argument("--crops", type=positive, default=24, metavar="N", help="images of each rank and step")
    parser.add_argument("--steps", type=positive, default=5, metavar="N", help="steps a round")
    add_rounds(parser)
    add_quick(parser)
    add_out(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the report, prints the tables, and returns 0."""
    from bench import environment
    from bench.measure import Contestant, measure
    from bench.report import publish
    from bench.step.exchange import WAYS, RankSetting
    from bench.step.rank_processes import order, ranks
    from debiaspl.models.trunks import TRUNKS

    if arguments.arch not in TRUNKS:
        raise UserError(f"There is no network {arguments.arch!r}; --arch takes one of {', '.join(TRUNKS)}.")
    quicken(arguments, rounds=2, steps=2)
    made = environment.record()
    threads = max(1, cores() // WORLD)
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder, "meeting"))
        setting = RankSetting(arguments.arch, arguments.size, arguments.crops, WORLD, threads, meeting)
        with ranks(setting) as connections:
            contestants = [Contestant(name, partial(order, connections, name, arguments.steps)) for name in WAYS]
            measured = measure(contestants, unit="steps/s", rounds=arguments.rounds)
    publish(_report(arguments, measured, made.ended(), threads), arguments.out, quick=arguments.quick)
    return 0


def _report(arguments: argparse.Namespace, measured: "Measurement", made: "Environment", threads: int) -> "Report":
    from bench.report import Rates, Reference, Report
    from debiaspl.models.classifier import Classifier

    size = sum(parameter.numel() for parameter in Classifier(arguments.arch, 1000).parameters()) * 4
    names = ("arch", "size", "crops", "steps", "rounds")
    return Report(
        theme="ranks",
        title="Summing gradients over two processes",
        command=command("ranks", arguments, *names),
        environment=made,
        settings={
            **{name: getattr(arguments, name) for name in names},
            "threads of each rank": threads,
            "gradients": f"{size / 1e6:.1f} MB, float32",
        },
        rates=Rates(measured, (Reference("of no exchange", "no exchange", percent=True),)),
        sections=(arithmetic(),),
        notes=(
            "A step is the student's forward and backward pass on uint8 crops, float32, channels-last, not compiled; "
            "no teacher, no update.",
            "Checked before timing: all ways give the same sums.",
            "Buckets are of 25 MiB, DistributedDataParallel's default.",
            "A compiled backward pass is one graph that hands over all gradients at its end. There buckets and "
            "DistributedDataParallel have nothing to overlap with, unless the graph is cut at every bucket.",
        ),
    )


def arithmetic() -> "Section":
    """Returns what one message after the backward pass costs on machines that were not measured."""
    from bench.report import Section

    sent = 2 * (GPUS - 1) / GPUS * RESNET50 * 4
    rows = [("", "bus bandwidth, GB/s", "exchange, ms", "step, ms", "share of the step")]
    for link, (bandwidth, step) in LINKS.items():
        taken = sent / bandwidth / 1e6
        rows.append((link, str(bandwidth), f"{taken:.2f}", f"{step:g}", f"{taken / (step + taken):.1%}"))
    return Section(
        f"Arithmetic for {GPUS} GPUs, nothing measured",
        tuple(rows),
        f"ResNet-50: {RESNET50 * 4 / 1e6:.0f} MB of float32 gradients; a ring all-reduce sends 2·(n−1)/n of them "
        f"({sent / 1e6:.0f} MB) over each link. Bus bandwidths are assumed, step times follow from published "
        "training rates; none of the exchange is hidden. What overlap could save at most is the last column.",
        {"parameters": RESNET50, "gpus": GPUS, "links": LINKS},
    )
