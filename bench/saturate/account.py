"""The table, picture and verdict of emulated accelerators: utilization over their number."""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from bench.arguments import STEP, cores
from bench.environment import Environment
from bench.report import Picture, Report, Section, origin
from bench.report.chart import GREY, PALETTE, line_chart, png
from bench.report.contents import Cells, number
from bench.saturate.rank import Seen

MUST, PASS = 0.98, 0.90
"""Utilization that this project wants, and that MLPerf Storage asks for with ResNet-50."""


class Trial(NamedTuple):
    """A pipeline that fed some accelerators."""

    pipeline: str
    ranks: Sequence[Seen]
    cold: bool = False
    """In the first pass over files that were not in memory."""

    @property
    def slowest(self) -> float:
        """Returns the least utilization of a rank."""
        return min(seen.utilization for seen in self.ranks)

    @property
    def rate(self) -> float:
        """Images per second, all ranks together."""
        return sum(STEP * seen.steps / seen.elapsed for seen in self.ranks)


def sustained(trials: Sequence[Trial], least: float) -> int:
    """Returns the largest number of accelerators up to which all numbers reach a utilization; 0 where one does not."""
    count = 0
    for trial in sorted(trials, key=lambda each: len(each.ranks)):
        if trial.slowest < least:
            break
        count = len(trial.ranks)
    return count


def verdict(pipeline: str, trials: Sequence[Trial], device: str, most: int) -> str:
    """Returns how many devices a pipeline keeps busy here."""
    counts = [sustained([each for each in trials if not each.cold], least) for least in (MUST, PASS)]
    more = f", of the {most} that were tried" if max(counts) == most else ""
    return (
        f"{pipeline}: this host keeps {counts[0]} × {device} busy for {MUST:.0%} of the time, and {counts[1]} for "
        f"{PASS:.0%}{more}."
    )


def table(trials: Sequence[Trial]) -> Section:
    """Returns a row for each pipeline and number of accelerators."""
    heading = ("accelerators", "utilization", "slowest", "waiting", "behind", "images/s", "cores", "GB", "MB/s")
    rows: list[Cells] = [heading]
    for trial in trials:
        seen = trial.ranks
        elapsed = max(each.elapsed for each in seen)
        name = f"{len(seen)} × {trial.pipeline}" + (", first pass from the disk" if trial.cold else "")
        means = [sum(getattr(each, what) / each.elapsed for each in seen) / len(seen) for what in ("waited", "behind")]
        rows.append(
            (
                name,
                f"{sum(each.utilization for each in seen) / len(seen):.1%}",
                f"{trial.slowest:.1%}",
                *(f"{mean:.1%}" for mean in means),
                number(trial.rate),
                f"{sum(each.cpu for each in seen) / elapsed:.2f}",
                f"{sum(each.resident for each in seen) / 1e9:.1f}",
                f"{sum(each.read for each in seen) / elapsed / 1e6:,.0f}",
            )
        )
    note = (
        "Utilization: the share of its time that an accelerator's steps took, the mean and the slowest rank's. "
        "Waiting: for batches. Behind: at the barrier after each step. Cores: kept busy. GB: memory of all ranks at "
        "most. MB/s: from the disk."
    )
    return Section("Emulated accelerators", tuple(rows), note)


def picture(trials: Sequence[Trial], title: str, caption: str) -> Picture:
    """Draws utilization over the number of accelerators, a line for each pipeline."""
    figure, axes = line_chart("accelerators", "utilization of the slowest, %", title)
    for least in (MUST, PASS):
        axes.axhline(100 * least, color=GREY, linestyle="--", linewidth=1)
    pipelines = list(dict.fromkeys(trial.pipeline for trial in trials))
    for pipeline, colour in zip(pipelines, PALETTE, strict=False):
        warm = [each for each in trials if each.pipeline == pipeline and not each.cold]
        counts = [len(each.ranks) for each in warm]
        axes.plot(counts, [100 * each.slowest for each in warm], "o-", color=colour, label=pipeline)
    axes.set_ylim(0, 103)
    axes.set_xticks(sorted({len(trial.ranks) for trial in trials}))
    axes.legend(frameon=False)
    return Picture("Utilization over the number of emulated accelerators; dashed: 98 and 90 %", png(figure, caption))


def report(
    arguments: argparse.Namespace,
    device: tuple[str, float, str],
    trials: Sequence[Trial],
    not_measured: dict[str, str],
    made: Environment,
) -> Report:
    """Returns the whole report."""
    name, seconds, source = device
    title = f"How many {name} this host's loaders keep busy"
    pipelines = list(dict.fromkeys(trial.pipeline for trial in trials))
    slowed = f", slowed to {arguments.scale:g} of its speed" if arguments.scale != 1 else ""
    return Report(
        theme="saturate",
        title=title,
        command=f"python -m bench saturate {' '.join(words(arguments))}",
        environment=made,
        settings=settings(arguments, (f"{name}{slowed}", seconds, source)),
        remarks=tuple(
            verdict(each, [t for t in trials if t.pipeline == each], f"{name}{slowed}", arguments.accelerators)
            for each in pipelines
        ),
        picture=picture(trials, title, origin(made)),
        not_measured=not_measured,
        sections=(table(trials),),
        notes=(
            "Each accelerator is a process with the real pipeline, from files to finished views, RandAugment included. "
            "Its step sleeps and takes no core, which a GPU's process does; then all ranks meet.",
            "The first pass from the disk begins with the first batch, which waits for the loader's own start. Other "
            "rows read from the page cache. A data set larger than memory is read from the disk all the time: "
            "python -m bench plan takes the disk's rate.",
        ),
        raw={
            "trials": [
                {"pipeline": t.pipeline, "cold": t.cold, "ranks": [seen._asdict() for seen in t.ranks]} for t in trials
            ]
        },
        quick=arguments.quick,
    )


def settings(arguments: argparse.Namespace, device: tuple[str, float, str]) -> dict[str, str | int | float]:
    """Returns what was measured with; ``device``: its title, its step's seconds, and where they are from."""
    name, seconds, source = device
    return {
        "device": f"{name}: {1000 * seconds:.1f} ms a step of {STEP} images ({source})",
        "pipelines": ", ".join(arguments.pipelines),
        "threads": f"{cores()} cores, shared by the ranks",
        "steps": arguments.steps,
        "images": arguments.images,
        "data": str(arguments.data or "the bench's own images"),
    }


def words(arguments: argparse.Namespace) -> list[str]:
    """Returns the options as they are typed."""
    names = ("accelerators", "device", "step_ms", "scale", "data", "images", "steps")
    given = {name: getattr(arguments, name) for name in names}
    options = [f"--{name.replace('_', '-')} {value}" for name, value in given.items() if value is not None]
    return [*options, f"--pipelines {' '.join(arguments.pipelines)}"]
