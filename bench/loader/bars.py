"""The loader's bars: rates against others', planning's share, what more cores buy, the cost of ten times the data."""

from collections.abc import Sequence

import numpy as np

from bench.four_views import PLANES
from bench.measure import Measurement, Series, Spread
from bench.report import Section
from bench.report.bars import HEADING, NONE, Bar, Judged, judge, unmeasured, verdict

PUBLISHED, STOCK = "published-style PIL loader", "DALI's stock auto_aug graph"
FFCV_LOADER = "FFCV's own Loader, one decode a view"
LEFT = "ffcv, strong views left to the device"
DECODE_LIMIT = "decode-only limit"
PLANNING = 0.015
"""Share of a batch's time that planning may take."""
LOADER_BARS = (
    Bar(PLANES, PUBLISHED, 6, 8),
    Bar(PLANES, DECODE_LIMIT, 0.9, 1.15, percent=True),
    Bar("ffcv", PUBLISHED, 4.2, 4.6),
    Bar("ffcv", DECODE_LIMIT, 0.28, 0.45, percent=True),
    Bar(LEFT, DECODE_LIMIT, 0.35, 0.55, percent=True),
    Bar("dali", STOCK, 2, 3),
)
SPEED_UP = "from 1 core to all, against what decoding alone gains"
FLAT = "cost of an image at ten times the data"
KERNEL = "planes to RGB against tjDecompress2, one thread"
CORE_MS = "CPU time of an image, planes against JPEGs"
_COSTS = {KERNEL: (0.30, 0.18), CORE_MS: (0.60, 0.48)}
"""What is compared → the largest share that must be kept to, and the goal."""
_SCALES, _STAYS = "≥ 1× within the spread", "flat within the spread"


def section(measured: Measurement, planning: tuple[str, float], further: Sequence[Judged] = ()) -> Section:
    """Returns the bars beside what was measured.

    ``planning`` is a pipeline and the share of its time that planning takes; ``further`` are the rows that the further
    tables decided.
    """
    name, share = planning
    rows = judge(LOADER_BARS, measured)
    rows.append(("decodes per sample", "1, by construction", "1", NONE))
    must = f"< {PLANNING:.1%}: {verdict(share < PLANNING)}"
    rows.append((f"planning, share of a batch's time ({name})", f"{share:.2%}", must, NONE))
    costs = [(what, *(f"≤ {bound:.0%}" for bound in bounds)) for what, bounds in _COSTS.items()]
    for what, must, goal in (*costs, (SPEED_UP, _SCALES, "≥ 1×"), (FLAT, _STAYS, NONE)):
        rows += [row for row in further if row[0].endswith(what)] or [unmeasured(what, must, goal)]
    return Section(
        "Bars",
        (HEADING, *rows),
        "Set in advance. A bar without 'met' or 'missed' was not measured. Planning: one thread's time to plan a "
        "step's 168 views, against the time between two steps. Within the spread: the upper quartile reaches the bar, "
        "or the quartiles overlap.",
        {"planning": {"pipeline": name, "share": share}},
    )


def cost(what: str, milliseconds: Spread, baseline: Spread) -> Judged:
    """Returns the row of a cost, KERNEL or CORE_MS, as a share of another one."""
    share = milliseconds.median / baseline.median
    must, goal = (f"≤ {bound:.0%}: {verdict(share <= bound)}" for bound in _COSTS[what])
    return what, f"{share:.1%}", must, goal


def speed_up(name: str, one: Series, all_: Series, limit_one: Series, limit_all: Series) -> Judged:
    """Returns the row of what a pipeline gains from more cores, over what decoding alone gains in the same rounds."""
    gained = np.divide(all_.rates, one.rates) / np.divide(limit_all.rates, limit_one.rates)
    found, each = all_.ratio(one).median / limit_all.ratio(limit_one).median, Spread.of(gained)
    return (
        f"{name}, {SPEED_UP}",
        f"{found:.2f}× ({each.low:.2f}–{each.high:.2f})",
        f"{_SCALES}: {verdict(max(found, each.high) >= 1)}",
        f"≥ 1×: {verdict(found >= 1)}",
    )


def flat(name: str, few: Spread, many: Spread) -> Judged:
    """Returns the row of an image's cost in a corpus ten times as large, over its cost in the small one."""
    return (
        f"{name}, {FLAT}",
        f"{many.median / few.median:.3f}×",
        f"{_STAYS}: {verdict(many.low <= few.high)}",
        NONE,
    )
