"""The report of the largest device: its step, the cores of one GPU, and what the plan foretold."""

import argparse
from collections.abc import Sequence

from bench.environment import Environment
from bench.plan.devices import DEVICES
from bench.report import Picture, Report, Section, origin
from bench.report.chart import GREY, PALETTE, line_chart, png
from bench.report.contents import Cells, number
from bench.saturate.account import MUST, settings, words
from bench.saturate.search import WITHIN, Largest

AGREES = 0.10
"""How far apart plan and measurement may be, as a share of the latter."""
USES = 0.90
"""Share of the loader's own rate that the largest device should use."""
_LEAST_SHOWN = 90.0
"""Utilization, %, from which the picture begins at the latest."""


def report(
    arguments: argparse.Namespace,
    device: tuple[str, float, str],
    every: Sequence[Largest],
    not_measured: dict[str, str],
    made: Environment,
) -> Report:
    """Returns the whole report; ``device``: its title, its step's seconds, and where they are from."""
    name, seconds, _ = device
    title = "The largest device that this host's loaders keep busy"
    agreed = sum(abs(each.apart) <= AGREES for each in every)
    return Report(
        theme="saturate_largest",
        title=title,
        command=f"python -m bench saturate --largest {' '.join(words(arguments))}",
        environment=made,
        settings=settings(arguments, device),
        remarks=(
            *(verdict(each, name, seconds) for each in every),
            f"The plan agrees within {AGREES:.0%} in {agreed} of {len(every)} cases.",
        ),
        picture=_picture(every, title, origin(made)),
        not_measured=not_measured,
        sections=(_found(every, seconds), _cores(every), _beside_the_plan(every)),
        notes=(
            "Each accelerator is a process with the real pipeline. Its step sleeps and takes no core, which a GPU's "
            "process does: add one for each (python -m bench plan --step-cores).",
            "The images are in memory. Step times of GPUs come from published training rates; none was measured here.",
        ),
        raw={
            "largest": [
                {
                    **each._asdict(),
                    "tried": {str(step): [seen._asdict() for seen in t.ranks] for step, t in each.tried.items()},
                }
                for each in every
            ]
        },
        quick=arguments.quick,
    )


def verdict(each: Largest, device: str, seconds: float) -> str:
    """Returns the largest device in a sentence, and how many cores one takes whose step is so many ``seconds``."""
    return (
        f"{_name(each)}: the largest device kept busy for {MUST:.0%} of the time takes {1000 * each.step:.1f} ms a "
        f"step, {seconds / each.step:.2f} of {device}; one {device} takes {each.cores_for(seconds):.1f} such cores."
    )


def _name(each: Largest) -> str:
    return f"{each.ranks} × {each.pipeline}"


def _found(every: Sequence[Largest], seconds: float) -> Section:
    rows: list[Cells] = [("accelerators", "step, ms", "utilization", "images/s", "of the loader alone", "scale")]
    for each in every:
        judged = "met" if each.share >= USES else "missed"
        cells = (f"{1000 * each.step:.1f}", f"{each.found.slowest:.1%}", number(each.found.rate))
        rows.append((_name(each), *cells, f"{each.share:.1%}: {judged}", f"{seconds / each.step:.3f}"))
    note = (
        f"The shortest step with a utilization of {MUST:.0%}, found to about {WITHIN:.0%}, coarser with --quick. Met: "
        f"at least {USES:.0%} of what the loader does alone. Scale: the share of the device's speed, as --scale has it."
    )
    return Section("The largest device", tuple(rows), note)


def _cores(every: Sequence[Largest]) -> Section:
    rows: list[Cells] = [("", *(f"{name}, {1000 * each.step_seconds:.1f} ms" for name, each in DEVICES.items()))]
    for each in every:
        rows.append((_name(each), *(f"{each.cores_for(device.step_seconds):.1f}" for device in DEVICES.values())))
    return Section("Cores for one GPU", tuple(rows), "Cores like these that loading takes, in proportion to the rate.")


def _beside_the_plan(every: Sequence[Largest]) -> Section:
    rows: list[Cells] = [("", "foretold, ms", "seen, ms", "apart", f"within {AGREES:.0%}")]
    for each in every:
        steps = (f"{1000 * each.foretold:.1f}", f"{1000 * each.step:.1f}", f"{each.apart:+.1%}")
        rows.append((_name(each), *steps, "yes" if abs(each.apart) <= AGREES else "no"))
    return Section(
        "Beside the plan",
        tuple(rows),
        "Foretold by python -m bench plan's simulation from one loader alone, on all cores.",
    )


def _picture(every: Sequence[Largest], title: str, caption: str) -> Picture:
    """Draws the utilization of every step that was tried, and a circle around the largest device."""
    figure, axes = line_chart("step, ms", "utilization of the slowest, %", title)
    axes.axhline(100 * MUST, color=GREY, linestyle="--", linewidth=1)
    for each, colour in zip(every, PALETTE * len(every), strict=False):
        steps = sorted(each.tried)
        shares = [100 * each.tried[step].slowest for step in steps]
        axes.plot([1000 * step for step in steps], shares, "o-", color=colour, label=_name(each))
        axes.plot(
            [1000 * each.step], [100 * each.found.slowest], "o", markersize=13, markerfacecolor="none", color=colour
        )
    axes.set_ylim(bottom=min(_LEAST_SHOWN, axes.get_ylim()[0]))  # else a picture of noise
    axes.legend(frameon=False)
    return Picture("Utilization over the time of a step; circles: the largest device", png(figure, caption))
