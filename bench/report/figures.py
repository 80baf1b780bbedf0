"""Pictures that a page draws of a report's tables: stacked stages, what more cores buy; read back from the cells."""

import io
import re
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from bench.report.chart import GREY, PALETTE, horizontal_bars, line_chart
from bench.report.contents import Section
from pipelines.names import readable

_COLOURS = (*PALETTE, GREY)
_WHOLE = "whole"
_NUMBER = re.compile(r"-?[\d,]+(?:\.\d+)?")


class Drawing(NamedTuple):
    """A picture, and what it shows, for those who do not see it."""

    what: str
    svg: str


def of_section(section: Section) -> Drawing | None:
    """Returns the picture of a table that is known to make one; None for any other."""
    if section.title.startswith("Stages"):
        return _stages(section)
    if section.title == "Cores":
        return _cores(section)
    return None


def svg(figure: Figure) -> str:
    """Returns the figure as the text of an SVG, the same each time."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _stages(section: Section) -> Drawing | None:
    """Returns a bar for each pipeline, made of its stages."""
    header, *rows = section.rows
    pipelines = [(column, name) for column, name in enumerate(header) if column and name != "share"]
    stages = [row for row in rows if row[0] != _WHOLE]
    if not pipelines or not stages:
        return None
    figure, axes = horizontal_bars([name for _, name in pipelines], "CPU ms of an image", section.title)
    for at, (column, _) in enumerate(pipelines):
        left = 0.0
        for number, row in enumerate(stages):
            width = max(0.0, _first(row[column]) or 0.0)
            label = readable(row[0], "mathtext") if at == 0 else None
            axes.barh(at, width, left=left, color=_COLOURS[number % len(_COLOURS)], height=0.6, label=label)
            left += width
    axes.legend(frameon=False, ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    return Drawing("CPU milliseconds of an image, stage by stage", svg(figure))


def _cores(section: Section) -> Drawing | None:
    """Returns a line for each pipeline: its rate over the number of cores."""
    header, *rows = section.rows
    cores = [int(_first(name) or 0) for name in header[1:]]
    figure, axes = line_chart("cores", "images/s", "What more cores buy")
    drawn: list[Sequence[float]] = []
    for row, colour in zip(rows, _COLOURS, strict=False):
        rates = [_first(cell) for cell in row[1:]]
        if all(rate is not None for rate in rates):
            drawn.append([rate for rate in rates if rate is not None])
            axes.plot(cores, drawn[-1], "o-", color=colour, label=readable(row[0], "mathtext"))
            axes.plot(cores, [drawn[-1][0] * count / cores[0] for count in cores], ":", color=colour, linewidth=1)
    if not drawn:
        return None
    axes.set_xticks(cores)
    axes.legend(frameon=False)
    return Drawing("Images per second over cores; dotted: in proportion to them", svg(figure))


def _first(cell: str) -> float | None:
    """Returns the first number in a cell."""
    found = _NUMBER.search(cell)
    return float(found[0].replace(",", "")) if found else None
