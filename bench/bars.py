"""What a measurement has to reach: bars that were set before it, and whether they are met; here the loader's."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench import report
from bench.measure import Measurement, Series, Spread

PUBLISHED, STOCK = "published-style PIL loader", "DALI's stock auto_aug graph"
LEFT = "ffcv, strong views left to the device"
LIMIT = "decode-only limit"
PLANNING = 0.02
"""Share of a batch's time that planning may take."""
Row = tuple[str, str, str, str]
"""What, measured, must, goal."""


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


HEADING = ("", "measured", "must", "goal")
SPEED_UP = "from 1 core to all, against what decoding alone gains"
FLAT = "cost of an image at ten times the data"
_SCALES, _STAYS = "≥ 1× within the spread", "flat within the spread"


def section(measured: Measurement, planning: tuple[str, float], further: Sequence[Row] = ()) -> report.Section:
    """The bars beside what was measured; ``planning``: a pipeline, and the share of its time that planning takes;
    ``further``: rows of the tables that were asked for.
    """
    name, share = planning
    found: list[Row] = rows(BARS, measured)
    found.append(("decodes per sample", "1, by construction", "1", "–"))
    word = verdict(share < PLANNING)
    found.append((f"planning, share of a batch's time ({name})", f"{share:.2%}", f"< {PLANNING:.0%}: {word}", "–"))
    for what, must, goal in ((SPEED_UP, _SCALES, "≥ 1×"), (FLAT, _STAYS, "–")):
        found += [row for row in further if row[0].endswith(what)] or [(what, "not measured", must, goal)]
    return report.Section(
        "Bars",
        (HEADING, *found),
        "Set in advance. Planning: one thread's time to plan a step's 168 views, against the time between two steps. "
        "Within the spread: the upper quartile reaches the bar, or the quartiles overlap.",
        {"planning": {"pipeline": name, "share": share}},
    )


def rows(bars: Sequence[Bar], measured: Measurement) -> list[Row]:
    """A row for each bar, below ``HEADING``."""
    found: list[Row] = []
    names = {series.name for series in measured.series}
    for bar in bars:
        what = f"{bar.name} against {bar.baseline}"
        bounds = (bar.must, bar.goal)
        wanted = ["–" if bound is None else f"≥ {bound:.0%}" if bar.percent else f"≥ {bound:g}×" for bound in bounds]
        if not {bar.name, bar.baseline} <= names:
            found.append((what, "not measured", wanted[0], wanted[1]))
            continue
        value = measured[bar.name].ratio(measured[bar.baseline]).median
        shown = report.ratio(measured[bar.name], measured[bar.baseline], bar.percent)
        must, goal = (
            text if bound is None else f"{text}: {verdict(value >= bound)}"
            for text, bound in zip(wanted, bounds, strict=True)
        )
        found.append((what, shown, must, goal))
    return found


def speed_up(name: str, one: Series, all_: Series, limit_one: Series, limit_all: Series) -> Row:
    """What a pipeline gains from more cores, against what decoding alone gains from them in the same rounds."""
    gained = np.divide(all_.rates, one.rates) / np.divide(limit_all.rates, limit_one.rates)
    found, each = all_.ratio(one).median / limit_all.ratio(limit_one).median, Spread.of(gained)
    return (
        f"{name}, {SPEED_UP}",
        f"{found:.2f}× ({each.low:.2f}–{each.high:.2f})",
        f"{_SCALES}: {verdict(max(found, each.high) >= 1)}",
        f"≥ 1×: {verdict(found >= 1)}",
    )


def flat(name: str, few: Spread, many: Spread) -> Row:
    """An image's cost in a small corpus, and in one ten times as large."""
    return (
        f"{name}, {FLAT}",
        f"{many.median / few.median:.3f}×",
        f"{_STAYS}: {verdict(many.low <= few.high)}",
        "–",
    )


def verdict(reached: bool) -> str:
    """In a word."""
    return "met" if reached else "missed"
