"""What the loader has to reach: bars that were set before it was measured, and whether they are met."""

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
    goal: float
    percent: bool = False


BARS = (
    Bar("ffcv", PUBLISHED, 4, 6),
    Bar("ffcv", LIMIT, 0.28, 0.45, percent=True),
    Bar(LEFT, LIMIT, 0.35, 0.55, percent=True),
    Bar("dali", STOCK, 2, 3),
)


def section(measured: Measurement, planning: tuple[str, float]) -> report.Section:
    """The bars beside what was measured; ``planning``: a pipeline, and the share of its time that planning takes."""
    rows: list[tuple[str, ...]] = [("", "measured", "must", "goal")]
    names = {series.name for series in measured.series}
    for bar in BARS:
        what = f"{bar.name} against {bar.baseline}"
        wanted = [f"≥ {value:.0%}" if bar.percent else f"≥ {value:g}×" for value in (bar.must, bar.goal)]
        if not {bar.name, bar.baseline} <= names:
            rows.append((what, "not measured", *wanted))
            continue
        found = measured[bar.name].ratio(measured[bar.baseline]).median
        shown = report.ratio(measured[bar.name], measured[bar.baseline], bar.percent)
        reached = (verdict(found >= value) for value in (bar.must, bar.goal))
        rows.append((what, shown, *(f"{bound}: {word}" for bound, word in zip(wanted, reached, strict=True))))
    name, share = planning
    word = verdict(share < PLANNING)
    word = verdict(share < PLANNING)
    rows.append((f"planning, share of a batch's time ({name})", f"{share:.2%}", f"< {PLANNING:.0%}: {word}", "–"))
    return report.Section(
        "Bars",
        tuple(rows),
        "Set in advance. Planning: one thread's time to plan a step's 168 views, against the time between two steps.",
        {"planning": {"pipeline": name, "share": share}},
    )


def verdict(reached: bool) -> str:
    """In a word."""
    return "met" if reached else "missed"
