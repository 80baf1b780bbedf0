"""A report as text: Markdown for readers, JSON for programs, tables for the terminal."""

import html
from collections.abc import Sequence
from dataclasses import asdict, astuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.environment import Environment
from bench.report import schema
from bench.report.contents import Report, commit
from pipelines.names import readable

BUSY = "The machine was not idle (see the load average): take these numbers for a draft."
QUICK = "Made with --quick: few rounds, so a draft, which no gate takes."
_RATIO = "A ratio is one of medians; in brackets the quartiles of the ratios within each round."


def as_json(report: Report) -> dict[str, object]:
    """Returns the whole report with its raw numbers, all but the picture."""
    environment = {"hardware": report.environment.hardware, **asdict(report.environment)}
    return {
        "schema": schema.VERSION,
        "theme": report.theme,
        "title": report.title,
        "command": report.command,
        **(report.rates.raw() if report.rates else {}),
        **report.raw,
        "environment": environment,
        "settings": report.settings,
        "settings_hash": report.settings_hash,
        "quick": report.quick,
        "remarks": report.remarks,
        "not_measured": report.not_measured,
        "sections": [asdict(section) for section in report.sections],
        "notes": report.notes,
    }


def as_markdown(report: Report, picture: str | None) -> str:
    """Returns the report as Markdown; ``picture`` says what <stem>.png shows, None where there is none."""
    said = (*report.remarks, QUICK) if report.quick else report.remarks
    remarks = [f"- **{_cell(remark)}**" for remark in said]
    raw = f"Raw numbers: [{report.stem}.json]({report.stem}.json)"
    parts = [
        f"# {_cell(report.title)}",
        f"{_cell(report.origin)}.",
        "\n".join(remarks),
        markdown_table(report.rates.rows()) if report.rates else "",
        *(f"Not measured: {_cell(name)}: {_cell(reason)}" for name, reason in report.not_measured.items()),
        f"![{_cell(picture)}]({report.stem}.png)" if picture else "",
        f"{_RATIO} {raw}" if report.rates else raw,
    ]
    for section in report.sections:
        parts += [f"## {_cell(section.title)}", markdown_table(section.rows), _cell(section.note)]
    notes = report.notes if report.environment.idle else (BUSY, *report.notes)
    if notes:
        parts.append("\n".join(["## Notes", *(f"- {_cell(note)}" for note in notes)]))
    listed = [f"- {_cell(name)}: {_cell(value)}" for name, value in conditions(report).items()]
    parts.append("\n".join(["## Conditions", *listed]))
    return "\n\n".join(filter(None, parts)) + "\n"


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """Returns a table whose first row is its heading, its first column text, the others numbers."""
    header, *rows = [[_cell(text) for text in row] for row in cells]
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def conditions(report: Report) -> dict[str, str]:
    """Returns all that the numbers depend on, by name."""
    made = report.environment
    return {
        "command": report.command,
        "hardware": f"{made.cpu}, {made.cores} cores, {made.memory_gib} GiB; GPU: {', '.join(made.gpus) or 'none'}",
        "system": f"{made.os}; Python {made.python}",
        "versions": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "commit": commit(made),
        "date": made.date,
        "load average (1, 5, 15 min)": _loads(made),
        **_machine(made),
        **{name: str(value) for name, value in report.settings.items()},
        "settings' hash": report.settings_hash,
    }


def _machine(made: Environment) -> dict[str, str]:
    """Returns what the report knows of GPUs, their libraries, NUMA nodes and storage."""
    machine = made.machine
    known = {
        **{f"GPU {number}": ", ".join(map(str, astuple(gpu))) for number, gpu in enumerate(machine.gpus)},
        "CUDA, cuDNN, NCCL": ", ".join(filter(None, (machine.cuda, machine.cudnn, machine.nccl))),
        "NUMA nodes": str(machine.numa_nodes),
        "storage": ", ".join(map(str, astuple(machine.storage))) if machine.storage.folder else "",
    }
    return {name: value for name, value in known.items() if value}


def _loads(made: Environment) -> str:
    return " → ".join(" ".join(map(str, load)) for load in (made.load_before, made.load_after))


def _cell(text: str) -> str:
    """Returns text that Markdown reads as text alone, in a table too."""
    plain = html.escape(readable(" ".join(text.split())), quote=False).replace("\\", "\\\\")
    for sign in "|`*[]":
        plain = plain.replace(sign, "\\" + sign)
    return plain


def _text(line: str) -> Text:
    """Returns one line that rich takes for text alone, whatever names are in it."""
    return Text(readable(line))


def show(report: Report, console: Console) -> None:
    """Prints the tables, the main one without the further facts, for which a terminal is too narrow."""
    if report.rates:
        show_table(report.title, report.rates.rows(facts=False), console, caption=report.origin, no_wrap=True)
    for section in report.sections:
        show_table(section.title, section.rows, console)
    for name, reason in report.not_measured.items():
        console.print(_text(f"Not measured: {name}: {reason}"))
    for remark in (*report.remarks, QUICK) if report.quick else report.remarks:
        console.print(_text(remark))


def show_table(
    title: str, cells: Sequence[Sequence[str]], console: Console, caption: str = "", no_wrap: bool = False
) -> None:
    """Prints a table whose first row is its heading."""
    table = Table(title=_text(title), caption=_text(caption), box=SIMPLE_HEAD, padding=0)
    header, *rows = cells
    for number, heading in enumerate(header):
        table.add_column(_text(heading), justify="right" if number else "left", no_wrap=no_wrap and not number)
    for row in rows:
        table.add_row(*map(_text, row))
    console.print(table)
