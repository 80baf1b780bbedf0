"""Reports as HTML pages: one that holds all of a report, the verdict first, and an index over a folder of reports."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.report.bars import HEADING
from bench.report.contents import Picture, Report
from bench.report.document import BUSY, QUICK, conditions
from bench.report.figures import of_section
from bench.report.schema import load
from debiaspl.report.page import Figure, Heading, Links, Paragraph, Section, Table, page, write_page
from pipelines.errors import DataError
from pipelines.files import replacing

INDEX = "index.html"


def report_page(report: Report, picture: Picture | None) -> str:
    """Returns a report's page, which asks no other file and no host for anything."""
    return page(report.title, list(_sections(report, picture)))


def write_pages(folder: Path) -> list[Path]:
    """Writes a page for each report in ``folder`` that can be read, and the index, and returns their paths."""
    written = []
    for path in sorted(folder.glob("*.json")):
        try:
            report = load(path)
        except DataError:  # the index names it
            continue
        drawn = path.with_suffix(".png")
        picture = Picture("The report's picture", drawn.read_bytes()) if drawn.exists() else None
        with replacing(path.with_suffix(".html")) as building:
            building.write_text(report_page(report, picture), encoding="utf-8")
        written.append(path.with_suffix(".html"))
    return [*written, write_index(folder)]


def write_index(folder: Path) -> Path:
    """Writes the index over the reports in ``folder`` that have a page, the newest first, and returns its path."""
    links, unread = [], []
    for path in sorted(folder.glob("*.json"), key=lambda each: (each.stem[-10:], each.stem), reverse=True):
        try:
            report = load(path)
        except DataError as error:
            unread.append(str(error))
            continue
        if path.with_suffix(".html").exists():
            line = ": ".join(filter(None, (f"{report.environment.date[:10]}, {report.title}", _gist(report))))
            links.append((f"{path.stem}.html", line))
    sections: list[Section] = [Links(links)]
    if unread:
        sections += [Heading("Not read"), *map(Paragraph, unread)]
    write_page(folder / INDEX, "Reports of the bench", sections)
    return folder / INDEX


def _sections(report: Report, picture: Picture | None) -> Iterator[Section]:
    for line in (*report.remarks, *((QUICK,) if report.quick else ()), *_missed(report)):
        yield Paragraph(line)
    yield Paragraph(f"{report.origin}.")
    if report.rates:
        yield _table(report.rates.rows())
    if picture is not None:
        yield Figure(picture.png, picture.what)
    if report.not_measured:
        yield Table(("not measured", "why"), list(report.not_measured.items()))
    for section in report.sections:
        yield Heading(section.title)
        if (drawn := of_section(section)) is not None:
            yield Figure(drawn.svg, drawn.what)
        yield _table(section.rows, section.note)
    notes = report.notes if report.environment.idle else (BUSY, *report.notes)
    if notes:
        yield Heading("Notes")
        yield from map(Paragraph, notes)
    yield Heading("Conditions")
    yield Table(("", "value"), list(conditions(report).items()))


def _table(rows: Sequence[Sequence[str]], caption: str = "") -> Table:
    return Table(rows[0], rows[1:], caption)


def _missed(report: Report) -> list[str]:
    """Returns a line that counts the bars that were met and missed, where a report has any."""
    judged = [row for section in report.sections if section.rows[:1] == (HEADING,) for row in section.rows[1:]]
    met, missed = (sum(row[2].endswith(f": {word}") for row in judged) for word in ("met", "missed"))
    return [f"Bars: {met} met, {missed} missed."] if met + missed else []


def _gist(report: Report) -> str:
    """Returns the report's verdict, or what its bars say."""
    return next(iter((*report.remarks, *_missed(report))), "")
