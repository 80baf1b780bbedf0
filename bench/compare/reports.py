"""Whether two reports may be compared, and the table of their rows."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bench.compare.statistics import Comparison, compare, compare_turns
from bench.measure import Measurement, Series
from bench.report import Report
from bench.report.contents import Cells, number
from pipelines.errors import DataError


class Row(NamedTuple):
    """One contestant in both reports: its median rates over processes, and their comparison."""

    name: str
    old: float
    new: float
    processes: tuple[int, int]
    found: Comparison


class Compared(NamedTuple):
    """Holds what two reports have in common, and which rows only one of them has."""

    unit: str
    rows: list[Row]
    missing: list[str]


def compare_reports(old: Report, new: Report, *, in_turns: bool = False) -> Compared:
    """Compares every contestant that both reports measured. Raises DataError where there is none.

    ``in_turns``: the first process of each report was measured beside that of the other, and so on.
    """
    before, after = _measurement(old), _measurement(new)
    names = [series.name for series in before.series]
    shared = [name for name in names if name in {series.name for series in after.series}]
    if not shared or before.unit != after.unit:
        raise DataError(f"The reports have no rates in common: {old.title!r} and {new.title!r}. Name two of one theme.")
    missing = [name for name in names if name not in shared]
    missing += [series.name for series in after.series if series.name not in shared]
    return Compared(before.unit, [_row(name, before[name], after[name], in_turns) for name in shared], missing)


def process_rates(series: Series) -> list[float]:
    """Returns the median rate of each process, units per second."""
    processes = sorted({sample.process for sample in series.samples})
    of = {process: [each.rate for each in series.samples if each.process == process] for process in processes}
    return [float(np.median(rates)) for rates in of.values()]


def differences(old: Report, new: Report) -> list[str]:
    """Returns what makes the comparison of two reports unfair, a line each: hardware, settings, recipe."""
    return [f"{what}: {was} against {now}" for what, was, now in _conditions(old, new) if was != now]


def remarks(old: Report, new: Report) -> list[str]:
    """Returns what a reader of the comparison should know but what does not forbid it, a line each."""
    lines = []
    for which, report in (("first", old), ("second", new)):
        if not report.environment.machine.storage.folder:
            lines.append(f"The {which} report is older than schema 1: GPUs' details and storage are not compared.")
        if not report.environment.idle:
            lines.append(f"The {which} report's machine was not idle when it began.")
        if report.quick:
            lines.append(f"The {which} report was made with --quick.")
    was, now = old.environment.versions, new.environment.versions
    names = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    changed = [f"{name} {was.get(name, 'none')} → {now.get(name, 'none')}" for name in names]
    return [*lines, *([f"Versions differ: {', '.join(changed)}."] if changed else [])]


def table(compared: Compared) -> list[Cells]:
    """Returns the heading and a row for each contestant."""
    rows: list[Cells] = [("", "first", "second", "ratio (95 % interval)", "p", "verdict")]
    for name, old, new, _, found in compared.rows:
        ratio = f"{found.ratio:.3f} ({found.low:.3f}–{found.high:.3f})"
        rows.append((name, number(old), number(new), ratio, f"{found.p:.3f}", found.verdict))
    return rows


def _row(name: str, old: Series, new: Series, in_turns: bool) -> Row:
    before, after = process_rates(old), process_rates(new)
    medians = float(np.median(before)), float(np.median(after))
    found = compare_turns(before, after) if in_turns else compare(before, after)
    return Row(name, *medians, (len(before), len(after)), found)


def _measurement(report: Report) -> Measurement:
    if report.rates is None:
        raise DataError(f"The report {report.title!r} has no rates to compare; the loader's and the step's have.")
    return report.rates.measurement


def _conditions(old: Report, new: Report) -> Iterator[tuple[str, object, object]]:
    """Yields what must be equal: its name, and its value in each report. What an older one lacks is left out."""
    yield "theme", old.theme, new.theme
    was, now = old.environment, new.environment
    for what in ("cpu", "cores", "memory_gib", "gpus"):
        yield what, getattr(was, what), getattr(now, what)
    if was.machine.storage.folder and now.machine.storage.folder:
        yield "GPUs", [each.name for each in was.machine.gpus], [each.name for each in now.machine.gpus]
        yield "power limits", _limits(old), _limits(new)
        yield "NUMA nodes", was.machine.numa_nodes, now.machine.numa_nodes
        for what in ("kind", "disk"):
            yield f"storage, {what}", getattr(was.machine.storage, what), getattr(now.machine.storage, what)
    for name in sorted(old.settings.keys() | new.settings.keys()):
        yield f"setting {name!r}", old.settings.get(name, "none"), new.settings.get(name, "none")


def _limits(report: Report) -> list[str]:
    return [each.power_limit for each in report.environment.machine.gpus]
