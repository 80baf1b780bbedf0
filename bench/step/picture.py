"""A waterfall: milliseconds per step from the published habits down to the step as it is, a bar for what each buys."""

from collections.abc import Sequence
from itertools import pairwise

from bench.report import Picture
from bench.report.chart import BLUE, GREEN, GREY, RED, annotate, horizontal_bars, png


def waterfall(steps: Sequence[tuple[str, float]], floor: tuple[str, float], title: str, caption: str) -> Picture:
    """Draws ``steps`` (what was added, and ms per step with it, the yardstick first) and ``floor`` as a line."""
    names, times = [name for name, _ in steps], [milliseconds for _, milliseconds in steps]
    unit = f"ms per step (dashed: {floor[0]}, {floor[1]:,.0f} ms)"
    figure, axes = horizontal_bars([*names, "all together"], unit, title)
    axes.barh(0, times[0], color=GREY, height=0.65)
    annotate(axes, f"{times[0]:,.0f} ms", times[0], 0)
    for row, (before, after) in enumerate(pairwise(times), start=1):
        axes.barh(row, before - after, left=after, color=GREEN if after <= before else RED, height=0.65)
        annotate(axes, f"{after - before:+,.0f} ms".replace("-", "−"), max(before, after), row)
        axes.plot([before, before], [row - 1, row], color="#555555", linewidth=0.6)
    last = len(steps)
    axes.barh(last, times[-1], color=BLUE, height=0.65)
    annotate(axes, f"{times[-1]:,.0f} ms: {times[0] / times[-1]:.2f}×", times[-1], last)
    axes.axvline(floor[1], color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.set_xlim(0, 1.18 * max(times))
    what = f"Waterfall of the table's ms per step, from {names[0]} to all together"
    return Picture(what, png(figure, caption))
