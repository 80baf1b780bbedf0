"""What a measurement has to reach: bars that were set before it, and whether they are met; here the loader's."""

from collections.abc import Sequence
from typing import NamedTuple

from bench import report
from bench.measure import Measurement

PUBLISHED, STOCK = "published-style PIL loader", "DALI's stock auto_aug graph"
LEFT = "ffcv, strong views left to the device"
LIMIT = "decode-only limit"
PLANNING = 0.02
"""Share of a batch's time that planning may take."""


class Bar(NamedTuple):
    """A contestant's rate, as a multiple or a share of another one's."""

    name: str
    baseline: str
    must: float
    goal: float | None
    percent: bool = False


BARS = (
    Bar("ffcv", PUBLISHED, 4, 6),
    Bar("ffcv", LIMIT, 0.28, 0.45, percent=True),
    Bar(LEFT, LIMIT, 0.35, 0.55, percent=True),
    Bar("dali", STOCK, 2, 3),
)


def section(measured: Measurement, planning: tuple[str, float]) -> report.Section:
    """The bars beside what was measured; ``planning``: a pipeline, and the share of its time that planning takes."""
    name, share = planning
    word = verdict(share < PLANNING)
    last = (f"planning, share of a batch's time ({name})", f"{share:.2%}", f"< {PLANNING:.0%}: {word}", "–")
    return report.Section(
        "Bars",
        (HEADING, *rows(BARS, measured), last),
        "Set in advance. Planning: one thread's time to plan a step's 168 views, against the time between two steps.",
        {"planning": {"pipeline": name, "share": share}},
    )


HEADING = ("", "measured", "must", "goal")


def rows(bars: Sequence[Bar], measured: Measurement) -> list[tuple[str, ...]]:
    """A row for each bar, below ``HEADING``."""
    found: list[tuple[str, ...]] = []
    names = {series.name for series in measured.series}
    for bar in bars:
        what = f"{bar.name} against {bar.baseline}"
        bounds = (bar.must, bar.goal)
        wanted = ["–" if bound is None else f"≥ {bound:.0%}" if bar.percent else f"≥ {bound:g}×" for bound in bounds]
        if not {bar.name, bar.baseline} <= names:
            found.append((what, "not measured", *wanted))
            continue
        value = measured[bar.name].ratio(measured[bar.baseline]).median
        shown = report.ratio(measured[bar.name], measured[bar.baseline], bar.percent)
        cells = (
            text if bound is None else f"{text}: {verdict(value >= bound)}"
            for text, bound in zip(wanted, bounds, strict=True)
        )
        found.append((what, shown, *cells))
    return found


def verdict(reached: bool) -> str:
    """In a word."""
    return "met" if reached else "missed"
