"""Where a report goes: its tables on the terminal, and files that last.

The files are called <theme>_<hardware>_<date>; one made later on the same day replaces its predecessor.
"""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.report import schema, web
from bench.report.chart import rates_chart
from bench.report.contents import Report
from bench.report.document import as_json, as_markdown, show
from pipelines.console import say
from pipelines.files import replacing


def publish(report: Report, folder: Path, *, quick: bool = False) -> None:
    """Prints the report's tables, writes its files and the index to ``folder`` and prints their paths.

    ``quick``: it was made with --quick, which it then says.
    """
    report = replace(report, quick=quick or report.quick)
    console = Console()
    show(report, console)
    for path in (*write(report, folder), web.write_index(folder)):
        say(str(path))


def write(report: Report, folder: Path) -> list[Path]:
    """Writes JSON, Markdown, page and picture, each complete or not at all, and returns their paths."""
    picture = report.picture or (rates_chart(report, report.rates) if report.rates else None)
    contents = {
        "json": schema.text_of(as_json(report)).encode(),
        "md": as_markdown(report, picture.what if picture else None).encode(),
        "html": web.report_page(report, picture).encode(),
        **({"png": picture.png} if picture else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in contents.items():
        with replacing(folder / f"{report.stem}.{suffix}") as building:
            building.write_bytes(content)
    return [folder / f"{report.stem}.{suffix}" for suffix in contents]
