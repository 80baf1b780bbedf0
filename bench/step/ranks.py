"""How two ranks should exchange gradients: forward and backward pass with three ways to sum them, and with none.

The ranks are two processes that share the cores and send through gloo, so the copying is real and the overlap is not
that of GPUs; for those the report adds arithmetic.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch.multiprocessing as multiprocessing
from rich.console import Console

from bench import environment, report
from bench.arguments import positive
from bench.measure import Contestant, Measurement, measure
from bench.step.exchange import WAYS, Setting, serve
from debiaspl.models.classifier import Classifier
from debiaspl.models.trunks import TRUNKS

WORLD = 2
_WARMUP = 1
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
    """The options of ``python -m bench ranks``."""
    parser.add_argument("--arch", choices=TRUNKS, default="resnet18", help="network")
    parser.add_argument("--size", type=positive, default=96, metavar="N", help="pixels")
    parser.add_argument("--crops", type=positive, default=24, metavar="N", help="images of each rank and step")
    parser.add_argument("--steps", type=positive, default=5, metavar="N", help="steps a round")
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="measured rounds, after one warm-up")
    parser.add_argument("--out", type=Path, default=report.FOLDER, metavar="FOLDER", help="for the report")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print the tables."""
    made = environment.record()
    threads = max(1, len(os.sched_getaffinity(0)) // WORLD)
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder, "meeting"))
        setting = Setting(arguments.arch, arguments.size, arguments.crops, WORLD, threads, meeting)
        with ranks(setting) as connections:
            contestants = [Contestant(name, partial(_order, connections, name, arguments.steps)) for name in WAYS]
            measured = measure(contestants, unit="steps/s", rounds=arguments.rounds, warmup=_WARMUP)
    written = _report(arguments, measured, made.ended(), threads)
    report.show(written, console := Console())
    for path in report.write(written, arguments.out):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return 0


@contextmanager
def ranks(setting: Setting) -> Iterator[list[Connection]]:
    """Processes that are ready for orders, one for each rank, and the ways to reach them."""
    context = multiprocessing.get_context("spawn")
    ours, processes = [], []
    try:
        for rank in range(setting.world):
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, setting, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process ends the connection
            ours.append(mine)
            processes.append(process)
        for connection in ours:
            connection.recv()
        yield ours
        for connection in ours:
            connection.send(("", 0))
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _order(connections: list[Connection], name: str, steps: int) -> int:
    for connection in connections:
        connection.send((name, steps))
    for connection in connections:
        connection.recv()
    return steps


def _report(
    arguments: argparse.Namespace, measured: Measurement, made: environment.Environment, threads: int
) -> report.Report:
    size = sum(parameter.numel() for parameter in Classifier(arguments.arch, 1000).parameters()) * 4
    settings = {name: getattr(arguments, name) for name in ("arch", "size", "crops", "steps", "rounds")}
    words = " ".join(f"--{name} {value}" for name, value in settings.items())
    return report.Report(
        theme="ranks",
        title="Summing gradients over two processes",
        command=f"python -m bench ranks {words}",
        measurement=measured,
        environment=made,
        settings={**settings, "threads of each rank": threads, "gradients": f"{size / 1e6:.1f} MB, float32"},
        references=(report.Reference("of no exchange", "no exchange", percent=True),),
        sections=(_arithmetic(),),
        notes=(
            "A step is the student's forward and backward pass on uint8 crops, float32, channels-last, not compiled; "
            "no teacher, no update.",
            "Checked before timing: all ways give the same sums.",
            "Buckets are of 25 MiB, DistributedDataParallel's default.",
            "A compiled backward pass is one graph that hands over all gradients at its end. There buckets and "
            "DistributedDataParallel have nothing to overlap with, unless the graph is cut at every bucket.",
        ),
    )


def _arithmetic() -> report.Section:
    """What one message after the backward pass costs on machines that were not measured."""
    sent = 2 * (GPUS - 1) / GPUS * RESNET50 * 4
    rows = [("", "bus bandwidth, GB/s", "exchange, ms", "step, ms", "share of the step")]
    for link, (bandwidth, step) in LINKS.items():
        taken = sent / bandwidth / 1e6
        rows.append((link, str(bandwidth), f"{taken:.2f}", f"{step:g}", f"{taken / (step + taken):.1%}"))
    return report.Section(
        f"Arithmetic for {GPUS} GPUs, nothing measured",
        tuple(rows),
        f"ResNet-50: {RESNET50 * 4 / 1e6:.0f} MB of float32 gradients; a ring all-reduce sends 2·(n−1)/n of them "
        f"({sent / 1e6:.0f} MB) over each link. Bus bandwidths are assumed, step times follow from published "
        "training rates; none of the exchange is hidden. What overlap could save at most is the last column.",
        {"parameters": RESNET50, "gpus": GPUS, "links": LINKS},
    )
