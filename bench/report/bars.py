"""Bars that were set before a measurement, and whether it meets, misses or does not measure them."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.measure import Measurement
from bench.report.contents import ratio

Judged = tuple[str, str, str, str]
"""A row of the table of bars: what, measured, must, goal."""
HEADING: Judged = ("", "measured", "must", "goal")
NOT_MEASURED = "not measured"
NONE = "–"
"""Stands where there is no bar."""


class Bar(NamedTuple):
    """A contestant's rate, as a multiple or a share of another one's."""

    name: str
    baseline: str
    must: float
    goal: float | None
    percent: bool = False


def judge(bars: Sequence[Bar], measured: Measurement) -> list[Judged]:
    """Returns a row for each bar. One whose contestant or baseline did not run has no verdict."""
    names = {series.name for series in measured.series}
    return [
        _judged(bar, measured) if {bar.name, bar.baseline} <= names else unmeasured(_what(bar), *_wanted(bar))
        for bar in bars
    ]


def unmeasured(what: str, must: str, goal: str) -> Judged:
    """Returns the row of a bar that nothing was measured for, without a verdict."""
    return what, NOT_MEASURED, must, goal


def verdict(reached: bool) -> str:
    """Returns 'met' or 'missed'."""
    return "met" if reached else "missed"


def _judged(bar: Bar, measured: Measurement) -> Judged:
    series, baseline = measured[bar.name], measured[bar.baseline]
    value = series.ratio(baseline).median
    must, goal = (
        text if bound is None else f"{text}: {verdict(value >= bound)}"
        for text, bound in zip(_wanted(bar), (bar.must, bar.goal), strict=True)
    )
    return _what(bar), ratio(series, baseline, bar.percent), must, goal


def _what(bar: Bar) -> str:
    return f"{bar.name} against {bar.baseline}"


def _wanted(bar: Bar) -> tuple[str, str]:
    def text(bound: float | None) -> str:
        if bound is None:
            return NONE
        return f"≥ {bound:.0%}" if bar.percent else f"≥ {bound:g}×"

    return text(bar.must), text(bar.goal)
