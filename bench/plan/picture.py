"""The plan's curve: images per second over the number of GPUs, with the bend where a host no longer keeps up."""

from collections.abc import Sequence

from bench.plan.arithmetic import Row
from bench.report import Picture
from bench.report.chart import BLUE, GREEN, GREY, RED, line_chart, png

_COLOURS = (BLUE, GREEN, RED, "#8a63b8")
_WIDTHS = (7, 4.5, 2.5, 1)
"""So that equal curves show all their colours."""
_BEND = 0.98
"""Share of the rate that GPUs could take, below which a host no longer keeps up."""


def bend(rows: Sequence[Row]) -> Row | None:
    """Returns the first row, in order of GPUs, whose GPUs wait for the host; None where all are kept busy."""
    ordered = sorted(rows, key=lambda each: each.gpus)
    return next((row for row in ordered if row.rate < _BEND * row.needed), None)


def curve(by_mode: Sequence[Sequence[Row]], title: str, caption: str) -> Picture:
    """Draws what all GPUs together train on in each mode of storage, below what they could take."""
    figure, axes = line_chart("GPUs", "images per second, all GPUs", title)
    gpus = [row.gpus for row in by_mode[0]]
    axes.plot(gpus, [row.gpus * row.needed for row in by_mode[0]], "--", color=GREY, label="GPUs that never wait")
    for rows, colour, width in zip(by_mode, _COLOURS, _WIDTHS, strict=False):
        rates = [row.gpus * row.rate for row in rows]
        axes.plot(gpus, rates, "o-", color=colour, linewidth=width, label=rows[0].mode.name)
        axes.plot(gpus, [row.gpus * row.supplied for row in rows], ":", color=colour, linewidth=1)
        if (bent := bend(rows)) is not None:
            axes.annotate(
                f"{bent.gpus} GPUs: {bent.bottleneck}",
                (bent.gpus, bent.gpus * bent.rate),
                (8, -14),
                textcoords="offset points",
                color=colour,
            )
            axes.plot([bent.gpus], [bent.gpus * bent.rate], "o", markersize=13, markerfacecolor="none", color=colour)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(gpus, map(str, gpus))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False)
    return Picture(
        "Images per second over GPUs; dotted what hosts supply; circles where they no longer keep up",
        png(figure, caption),
    )
