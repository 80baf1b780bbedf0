"""A waterfall: milliseconds per step from the published habits down to the step as it is, a bar for what each buys."""

import io
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure

from bench.report import Picture

_GREY, _BLUE, _GREEN, _RED = "#9aa5b1", "#2c6fbb", "#3f9b57", "#c2513f"


def waterfall(steps: Sequence[tuple[str, float]], floor: tuple[str, float], title: str, caption: str) -> Picture:
    """``steps``: what was added, and ms per step with it, the yardstick first. ``floor`` is drawn as a line."""
    names, times = [name for name, _ in steps], [milliseconds for _, milliseconds in steps]
    figure = Figure(figsize=(9, 1.8 + 0.5 * (len(steps) + 1)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(0, times[0], color=_GREY, height=0.65)
    axes.annotate(f"{times[0]:,.0f} ms", (times[0], 0), (6, 0), textcoords="offset points", va="center")
    for row, (before, after) in enumerate(pairwise(times), start=1):
        axes.barh(row, before - after, left=after, color=_GREEN if after <= before else _RED, height=0.65)
        right = max(before, after)
        change = f"{after - before:+,.0f} ms".replace("-", "−")
        axes.annotate(change, (right, row), (6, 0), textcoords="offset points", va="center")
        axes.plot([before, before], [row - 1, row], color="#555555", linewidth=0.6)
    last = len(steps)
    axes.barh(last, times[-1], color=_BLUE, height=0.65)
    together = f"{times[-1]:,.0f} ms: {times[0] / times[-1]:.2f}×"
    axes.annotate(together, (times[-1], last), (6, 0), textcoords="offset points", va="center")
    axes.axvline(floor[1], color=_GREY, linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(range(last + 1), [*names, "all together"])
    axes.set_ylim(last + 0.6, -0.6)
    axes.set_xlim(0, 1.18 * max(times))
    axes.set_xlabel(f"ms per step (dashed: {floor[0]}, {floor[1]:,.0f} ms)")
    axes.set_title(title, loc="left", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.supxlabel(caption, fontsize=7, color="#555555")
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return Picture(f"Waterfall of the table's ms per step, from {names[0]} to all together", image.getvalue())
