"""A comparison as one HTML page: the rows with their verdicts, and a forest plot of the ratios."""

from collections.abc import Sequence
from pathlib import Path

from bench.compare.reports import Compared, Row, table
from bench.compare.statistics import Verdict
from bench.report import Report
from bench.report.chart import BLUE, GREEN, GREY, RED, horizontal_bars
from bench.report.contents import origin
from bench.report.figures import svg
from debiaspl.report.page import Figure, Heading, Paragraph, Section, Table, write_page
from pipelines.errors import DataError
from pipelines.names import readable

COLOURS: dict[Verdict, str] = {
    "faster": GREEN,
    "slower": RED,
    "no difference shown": BLUE,
    "too noisy": GREY,
    "too few processes": GREY,
}


def write(path: Path, old: Report, new: Report, compared: Compared, remarks: Sequence[str]) -> None:
    """Writes the page to ``path``, and makes its folder; raises DataError where that cannot be written."""
    header, *rows = table(compared)
    sections: list[Section] = [
        *(
            Paragraph(f"{row.name}: {row.found.verdict}, {row.found.ratio:.3f} times the rate.")
            for row in compared.rows
        ),
        Figure(forest(compared.rows), "Ratio of the rates with its 95 % interval; the line at 1 means equal"),
        Table(header, rows, f"{compared.unit}, median of each process."),
        *([Paragraph(f"In one report only: {', '.join(compared.missing)}.")] if compared.missing else []),
        *map(Paragraph, remarks),
        Heading("The two reports"),
        Table(
            ("", "first", "second"),
            [
                ("title", old.title, new.title),
                ("command", old.command, new.command),
                ("measured", origin(old.environment), origin(new.environment)),
                ("processes", _processes(compared.rows, 0), _processes(compared.rows, 1)),
                ("settings' hash", old.settings_hash, new.settings_hash),
            ],
        ),
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, f"Comparison: {old.title}", sections)
    except OSError as error:
        raise DataError(f"Cannot write {readable(path)}: {error.strerror}. Name another file with --html.") from error


def forest(rows: Sequence[Row]) -> str:
    """Returns the SVG of a point and its 95 % interval for each row, beside a line at 1."""
    figure, axes = horizontal_bars([row.name for row in rows], "second rate / first rate", "Ratio, 95 % interval")
    axes.axvline(1, color="black", linewidth=1)
    for at, (_, _, _, _, found) in enumerate(rows):
        axes.plot([found.low, found.high], [at, at], color=COLOURS[found.verdict], linewidth=2.5)
        axes.plot([found.ratio], [at], "s", color=COLOURS[found.verdict], markersize=8)
        axes.annotate(found.verdict, (found.high, at), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.margins(x=0.3)  # so that the verdicts have room
    return svg(figure)


def _processes(rows: Sequence[Row], side: int) -> str:
    return ", ".join(map(str, sorted({row.processes[side] for row in rows})))
