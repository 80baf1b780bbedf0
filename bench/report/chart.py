"""Pictures for reports: the bar chart of a table of rates, and what all charts have in common."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.contents import Picture, Rates, Report, number
from pipelines.names import readable

GREY, BLUE, GREEN, RED = "#9aa5b1", "#2c6fbb", "#3f9b57", "#c2513f"
PALETTE = (BLUE, GREEN, RED, "#8a63b8", "#e0a13a", "#3aa6a0")
"""Colours of lines or parts that have no meaning of their own."""


def rates_chart(report: Report, rates: Rates) -> Picture:
    """Returns a bar for each contestant with its quartiles; references are grey."""
    series = rates.measurement.series
    spreads = [each.rate for each in series]
    figure, axes = horizontal_bars([each.name for each in series], rates.measurement.unit, report.title)
    errors = [[rate.median - rate.low for rate in spreads], [rate.high - rate.median for rate in spreads]]
    references = {reference.name for reference in rates.references}
    colours = [GREY if each.name in references else BLUE for each in series]
    medians = [rate.median for rate in spreads]
    axes.barh(range(len(series)), medians, xerr=errors, color=colours, capsize=3, height=0.65)
    for row, rate in enumerate(spreads):
        annotate(axes, number(rate.median), rate.high, row)
    axes.set_xlim(0, 1.12 * max(rate.high for rate in spreads))
    absent = "; ".join(f"not measured: {name}" for name in report.not_measured)
    caption = "\n".join(filter(None, [report.origin.replace("; median", "\nmedian"), absent]))
    return Picture("Bar chart of the table", png(figure, caption))


def horizontal_bars(names: Sequence[str], unit: str, title: str) -> tuple[Figure, Axes]:
    """Returns an empty chart with a row for each name, the first at the top."""
    figure = Figure(figsize=(9, 1.6 + 0.55 * len(names)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), [readable(name, "mathtext") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(readable(unit, "mathtext"))
    axes.set_title(readable(title, "mathtext"), loc="left", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def line_chart(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    """Returns an empty chart with these names of its axes."""
    figure = Figure(figsize=(9, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(readable(x, "mathtext"))
    axes.set_ylabel(readable(y, "mathtext"))
    axes.set_title(readable(title, "mathtext"), loc="left", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def annotate(axes: Axes, text: str, x: float, row: int) -> None:
    """Writes ``text`` to the right of a bar that ends at ``x``."""
    axes.annotate(text, (x, row), (6, 0), textcoords="offset points", va="center")


def png(figure: Figure, caption: str = "") -> bytes:
    """Returns the figure as a PNG, with a small caption below it."""
    lines = "\n".join(readable(line, "mathtext") for line in caption.split("\n"))
    figure.supxlabel(lines, fontsize=7, color="#555555")
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()
