"""A measurement as files that last: raw JSON, a Markdown table and a bar chart, and the same table on the terminal.

All three are called <theme>_<hardware>_<date>; one made later on the same day replaces its predecessor.
"""

import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.environment import Environment
from bench.measure import Measurement, Series
from pipelines.files import replacing

FOLDER = Path(__file__).parent / "reports"
BUSY = "The machine was not idle (see the load average): take these numbers for a draft."


@dataclass(frozen=True)
class Reference:
    """A contestant that the others are divided by, in a column of its own."""

    heading: str
    name: str
    percent: bool = False
    """Shown as a share; otherwise as a multiple."""


@dataclass(frozen=True)
class Section:
    """A further table, below the main one."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    """The heading first."""
    note: str = ""
    raw: dict[str, object] = field(default_factory=dict)
    """What the table was made of, for the JSON."""


@dataclass(frozen=True)
class Report:
    """Everything a reader needs to judge the numbers, and to repeat them."""

    theme: str
    """First part of the file names."""
    title: str
    command: str
    measurement: Measurement
    environment: Environment
    settings: dict[str, str | int | float]
    references: tuple[Reference, ...] = ()
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    """Heading of a further column → contestant → its cell."""
    not_measured: dict[str, str] = field(default_factory=dict)
    """Name → why."""
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        return f"{self.theme}_{self.environment.hardware}_{self.environment.date[:10]}"


class Picture(NamedTuple):
    """What stands below the main table."""

    what: str
    """In words, for those who do not see it."""
    png: bytes


def write(report: Report, folder: Path, picture: Picture | None = None) -> list[Path]:
    """Write the three files and return their paths. Without a ``picture`` it is a bar chart of the table."""
    picture = picture or Picture("Bar chart of the table", _chart(report))
    return write_files(folder, report.stem, as_json(report), picture.png, _markdown(report, picture.what))


def write_files(folder: Path, stem: str, raw: dict[str, object], picture: bytes, text: str) -> list[Path]:
    """Write <stem>.json, .png and .md, each complete or not at all, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "json": (json.dumps(raw, indent=1, ensure_ascii=False) + "\n").encode(),
        "png": picture,
        "md": text.encode(),
    }
    for suffix, content in contents.items():
        with replacing(folder / f"{stem}.{suffix}") as building:
            building.write_bytes(content)
    return [folder / f"{stem}.{suffix}" for suffix in contents]


def show(report: Report, console: Console) -> None:
    """Print the table without the further facts, for which a terminal is too narrow."""
    show_table(report.title, _table(replace(report, facts={})), console, caption=_origin(report), no_wrap=True)
    for section in report.sections:
        show_table(section.title, section.rows, console)
    for name, reason in report.not_measured.items():
        console.print(Text(f"Not measured: {name}: {reason}"))


def show_table(
    title: str, cells: Sequence[Sequence[str]], console: Console, caption: str = "", no_wrap: bool = False
) -> None:
    """Print a table whose first row is its heading."""
    table = Table(title=Text(title), caption=Text(caption), box=SIMPLE_HEAD, padding=0)
    header, *rows = cells
    for number, heading in enumerate(header):
        table.add_column(Text(heading), justify="right" if number else "left", no_wrap=no_wrap and not number)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def as_json(report: Report) -> dict[str, object]:
    """The report with its raw samples, and the statistics made of them."""
    measured = report.measurement
    summary = {
        series.name: {
            "rate": asdict(series.rate),
            "ratios": {
                reference.heading: asdict(series.ratio(measured[reference.name])) for reference in report.references
            },
        }
        for series in measured.series
    }
    environment = {"hardware": report.environment.hardware, **asdict(report.environment)}
    return {**asdict(report), "environment": environment, "summary": summary}


def _table(report: Report) -> list[list[str]]:
    """The heading, then a row for each contestant."""
    measured = report.measurement
    references, facts = report.references, report.facts
    rows = [["", measured.unit, "IQR", *(reference.heading for reference in references), *facts]]
    for series in measured.series:
        rate = series.rate
        cells = [series.name, _number(rate.median), f"{_number(rate.low)}–{_number(rate.high)}"]
        cells += [ratio(series, measured[reference.name], reference.percent) for reference in references]
        rows.append(cells + [column.get(series.name, "–") for column in facts.values()])
    return rows


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(series: Series, baseline: Series, percent: bool) -> str:
    """How many times the baseline's rate this one's is, with the quartiles."""
    if series is baseline:
        return "100 %" if percent else "1"
    found = series.ratio(baseline)
    scale, digits, sign = (100, 1, " %") if percent else (1, 2, "×")
    low, high = f"{scale * found.low:.{digits}f}", f"{scale * found.high:.{digits}f}"
    return f"{scale * found.median:.{digits}f}{sign} ({low}–{high})"


def _origin(report: Report) -> str:
    measured = report.measurement
    return (
        f"{origin(report.environment)}; "
        f"median and inter-quartile range of {measured.rounds} interleaved rounds after {measured.warmup} warm-up"
    )


def origin(made: Environment) -> str:
    """Machine, day and commit in a line."""
    commit = made.commit[:10] + (" with local changes" if made.dirty else "")
    return f"{made.cpu}, {made.cores} cores; {made.date[:10]}; commit {commit}"


def _markdown(report: Report, picture: str) -> str:
    absent = "".join(
        f"Not measured: {_cell(name)}: {_cell(reason)}\n\n" for name, reason in report.not_measured.items()
    )
    sections = "".join(
        f"## {_cell(section.title)}\n\n{markdown_table(section.rows)}\n\n"
        + (f"{_cell(section.note)}\n\n" if section.note else "")
        for section in report.sections
    )
    busy = () if report.environment.idle else (BUSY,)
    notes = "\n".join(f"- {_cell(note)}" for note in (*busy, *report.notes))
    return (
        f"# {_cell(report.title)}\n\n{_cell(_origin(report))}.\n\n{markdown_table(_table(report))}\n\n{absent}"
        f"![{_cell(picture)}]({report.stem}.png)\n\n"
        f"A ratio is one of medians; in brackets the quartiles of the ratios within each round. "
        f"Raw samples: [{report.stem}.json]({report.stem}.json)\n\n{sections}## Notes\n{notes}\n\n"
        f"## Conditions\n{conditions(report.environment, report.command, report.settings)}\n"
    )


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its heading, its first column text, the others numbers."""
    header, *rows = [[_cell(text) for text in row] for row in cells]
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def conditions(made: Environment, command: str, settings: dict[str, str | int | float]) -> str:
    """A Markdown list of all that the numbers depend on."""
    loads = " → ".join(" ".join(map(str, load)) for load in (made.load_before, made.load_after))
    details = {
        "command": command,
        "hardware": f"{made.cpu}, {made.cores} cores, {made.memory_gib} GiB; GPU: {', '.join(made.gpus) or 'none'}",
        "system": f"{made.os}; Python {made.python}",
        "versions": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "commit": made.commit + (" with local changes" if made.dirty else ""),
        "date": made.date,
        "load average (1, 5, 15 min)": loads,
        **settings,
    }
    return "\n".join(f"- {_cell(name)}: {_cell(str(value))}" for name, value in details.items())


def _cell(text: str) -> str:
    """Text that is only text, in a Markdown table too."""
    plain = html.escape(" ".join(text.split()), quote=False).replace("\\", "\\\\")
    for sign in "|`*[]":
        plain = plain.replace(sign, "\\" + sign)
    return plain


def _chart(report: Report) -> bytes:
    series = report.measurement.series
    rates = [each.rate for each in series]
    figure = Figure(figsize=(9, 1.6 + 0.55 * len(series)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    errors = [[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]]
    yardsticks = {reference.name for reference in report.references}
    colours = ["#9aa5b1" if each.name in yardsticks else "#2c6fbb" for each in series]
    axes.barh(range(len(series)), [rate.median for rate in rates], xerr=errors, color=colours, capsize=3, height=0.65)
    axes.set_yticks(range(len(series)), [_literal(each.name) for each in series])
    axes.invert_yaxis()
    for row, rate in enumerate(rates):
        axes.annotate(_number(rate.median), (rate.high, row), (6, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, 1.12 * max(rate.high for rate in rates))
    axes.set_xlabel(_literal(report.measurement.unit))
    axes.set_title(_literal(report.title), loc="left", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    absent = "; ".join(f"not measured: {name}" for name in report.not_measured)
    caption = _literal("\n".join(filter(None, [_origin(report).replace("; median", "\nmedian"), absent])))
    figure.supxlabel(caption, fontsize=7, color="#555555")
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _literal(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
