"""The plan's tables, its verdict and its report."""

import argparse
import math
from collections.abc import Sequence
from itertools import chain

from bench.arguments import STEP
from bench.environment import Environment
from bench.plan.arithmetic import IMAGENET, Host, Mode, Row, best_mode, row
from bench.plan.devices import DEVICES
from bench.plan.picture import curve
from bench.plan.simulation import Setup, simulate
from bench.report import Report, Section, origin
from bench.report.contents import Cells, number
from debiaspl.recipes import find

RECIPES = {
    "imagenet-1p": 0.99,
    "imagenet-1p-clip": 0.99,
    "imagenet-02p": 0.998,
    "imagenet-02p-clip": 0.998,
    "zero-shot": 1,
}
"""Recipe → share of ImageNet's training images that it takes as unlabeled."""
GROUPS = 8
"""Groups of a recipe's step, hence GPUs that compute the same experiment."""
DECODE_VARIATION, STEP_VARIATION = 0.10, 0.02
_STEPS = 150
_PREFETCHES = (1, 2, 4, 8)
_HIDDEN = 0.005
"""Share of the time that a deeper queue must save to be worth its memory."""


def setup_of(found: Row, host: Host, step_seconds: float, prefetch: int = 2) -> Setup:
    """Returns the simulation of a row, without its disk where the images are in memory."""
    reads = 0.0 if math.isinf(found.by_disk) else STEP * found.mode.kilobytes / 1000 / host.disk_mb_s
    return Setup(
        step=step_seconds,
        decode=STEP / found.by_cores,
        read=reads,
        ranks=found.gpus,
        ranks_of_host=math.ceil(found.gpus / found.hosts),
        prefetch=prefetch,
        step_variation=STEP_VARIATION,
        decode_variation=DECODE_VARIATION,
        collective=found.exchange_seconds,
        steps=_STEPS,
    )


def prefetch_of(found: Row, host: Host, step_seconds: float) -> int:
    """Returns the shortest queue beyond which a longer one saves less than half a percent of the time."""
    waits = [simulate(setup_of(found, host, step_seconds, each)).waiting for each in _PREFETCHES]
    return next(each for each, wait in zip(_PREFETCHES, waits, strict=True) if wait <= waits[-1] + _HIDDEN)


def report(
    arguments: argparse.Namespace,
    device: tuple[str, float, str],
    host: Host,
    by_mode: Sequence[Sequence[Row]],
    made: Environment,
) -> Report:
    """Returns the whole report; ``by_mode`` holds a list of rows, in order of GPUs, for each mode of storage."""
    name, seconds, source = device
    chosen = [best_mode(list(rows)) for rows in zip(*by_mode, strict=True)]
    title = f"What {name} GPUs need, and what hosts of {host.gpus} give them"
    modes = [rows[0].mode for rows in by_mode]
    return Report(
        theme="plan",
        title=title,
        command=f"python -m bench plan {words(arguments)}",
        environment=made,
        settings={
            "device": f"{name}: {1000 * seconds:.1f} ms a step of {STEP} images ({source})",
            "host": f"{host.gpus} GPUs, {host.cores} cores, {host.memory_gb:g} GB, disk {host.disk_mb_s:g} MB/s, "
            f"network {host.network_gbit_s:g} Gbit/s; {host.step_cores:g} core for each GPU's own process",
            **{f"cost, {each.name}": _cost(each) for each in modes},
        },
        remarks=tuple(verdict(each, host, seconds) for each in chosen if each.gpus in (host.gpus, chosen[-1].gpus)),
        picture=curve(by_mode, title, origin(made)),
        sections=(
            _needs(by_mode, host, seconds),
            _hours(chosen),
            _first_epoch(modes, host, seconds),
            _devices(),
        ),
        notes=(
            "Nothing here was measured on a GPU. Exchange between hosts: float32 gradients by a ring, none of it "
            "hidden; within a host about 2 % more (docs/scale.md).",
            f"Simulated: batches whose making varies by {DECODE_VARIATION:.0%}, steps by {STEP_VARIATION:.0%} "
            f"(standard deviation over mean), {_STEPS} steps; each GPU then waits for the slowest. "
            "python -m bench plan --validate compares the simulation with real processes.",
            f"More than {GROUPS} GPUs need more groups than a recipe has: science.labeled_batch = 8 × GPUs, which is "
            "another experiment.",
        ),
    )


def verdict(found: Row, host: Host, step_seconds: float) -> str:
    """Returns in a sentence whether GPUs are kept busy, with which mode, threads and prefetch, or what gives out."""
    place = f"{found.gpus} GPUs on {found.hosts} host{'s' if found.hosts > 1 else ''}, {found.mode.name}"
    if found.bottleneck in ("GPU", "network"):
        settings = f"engine.threads={found.threads}, engine.prefetch={prefetch_of(found, host, step_seconds)}"
        slower = ", at the pace of the network between hosts" if found.bottleneck == "network" else ""
        return f"{place}: the GPUs are kept busy{slower}; {settings}."
    lack = f"{found.cores_needed:.0f} cores are needed" if found.bottleneck == "cores" else _bytes(found)
    gives = "cores give" if found.bottleneck == "cores" else "the disk gives"
    return f"{place}: {gives} out first, at {found.rate / found.needed:.0%} of the GPUs' rate; {lack}."


def words(arguments: argparse.Namespace) -> str:
    """Returns the options that were given or are defaults, as they are typed."""
    names = ("device", "step_ms", "loader", "step", "gpus", "hosts", "cores", "memory", "disk", "network", "step_cores")
    given = {name: getattr(arguments, name) for name in names}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items() if value is not None)


def _bytes(found: Row) -> str:
    return f"{found.gpus / found.hosts * found.needed * found.mode.kilobytes / 1000:,.0f} MB/s of each host are needed"


def _cost(mode: Mode) -> str:
    return f"{mode.core_ms:.2f} core-ms and {mode.kilobytes:g} kB an image ({mode.source})"


def _needs(by_mode: Sequence[Sequence[Row]], host: Host, seconds: float) -> Section:
    rows: list[Cells] = [("GPUs, hosts", "mode", "needed", "supplied", "bottleneck", "threads", "cores", "idle")]
    for found in chain(*by_mode):
        waits, idle = 1 - found.rate / found.needed, simulate(setup_of(found, host, seconds)).idle
        rows.append(
            (
                f"{found.gpus}, {found.hosts}",
                found.mode.name,
                number(found.needed),
                number(found.supplied),
                found.bottleneck,
                f"{found.threads}",
                f"{found.cores_needed:.1f}",
                f"{waits:.0%} ({idle:.1%})",
            )
        )
    note = (
        "Needed and supplied: images per second of one GPU. Threads are for each GPU, cores those that each host needs "
        "for loading. Idle: the GPUs' share of time without work, by arithmetic and, in brackets, by simulation, which "
        "adds what steps and batches that vary cost. From the second epoch on."
    )
    return Section("Need and supply", tuple(rows), note)


def _hours(chosen: Sequence[Row]) -> Section:
    rows: list[Cells] = [("recipe", *(f"{each.gpus} GPUs" if each.gpus > 1 else "1 GPU" for each in chosen))]
    for name, share in RECIPES.items():
        epochs, unlabeled = find(name).science.epochs, round(share * IMAGENET)
        rows.append((name, *(f"{each.hours(epochs, unlabeled):.1f}" for each in chosen)))
    return Section("Hours of a recipe", tuple(rows), "In the better mode of storage, without evaluations.")


def _first_epoch(modes: Sequence[Mode], host: Host, seconds: float) -> Section:
    rows: list[Cells] = [("", "GB of ImageNet", "stays in memory", "first epoch, images/s a GPU", "bottleneck")]
    for mode in modes:
        cold = row(host.gpus, host, mode, seconds, cold=True)
        kept = "yes" if host.caches(mode) else "no"
        rows.append((mode.name, f"{IMAGENET * mode.kilobytes / 1e6:,.0f}", kept, number(cold.rate), cold.bottleneck))
    return Section("The first epoch, from the disk", tuple(rows), f"One host with {host.gpus} GPUs.")


def _devices() -> Section:
    rows: list[Cells] = [("", "training rate", "step, ms", "steps/s", "images/s a GPU", "8 GPUs", "source")]
    for name, device in DEVICES.items():
        seconds = device.step_seconds
        rates = (f"{STEP / seconds:,.0f}", f"{8 * STEP / seconds:,.0f}")
        rows.append((name, f"{device.rate:,}", f"{1000 * seconds:.1f}", f"{1 / seconds:.1f}", *rates, device.source))
    return Section(
        "Devices", tuple(rows), "Published training rates of ResNet-50; a step: 88 crops trained, 80 forward."
    )
