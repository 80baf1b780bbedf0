"""What a report is made of: its facts, a table of rates, further tables, and a picture."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from bench.environment import Environment
from bench.measure import Measurement, Series

Cells = tuple[str, ...]
"""One row of a table."""


@dataclass(frozen=True)
class Reference:
    """A contestant that the others are divided by, in a column of its own."""

    heading: str
    name: str
    percent: bool = False
    """Shown as a share; otherwise as a multiple."""


@dataclass(frozen=True)
class Rates:
    """A measurement, and the columns that its table has beside rate and quartiles."""

    measurement: Measurement
    references: tuple[Reference, ...] = ()
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    """Heading of a further column → contestant → its cell."""

    def rows(self, *, facts: bool = True) -> list[Cells]:
        """Returns the heading and a row for each contestant, with or without the columns of ``facts``."""
        columns = self.facts if facts else {}
        headings = (reference.heading for reference in self.references)
        found: list[Cells] = [("", self.measurement.unit, "IQR", *headings, *columns)]
        for series in self.measurement.series:
            rate = series.rate
            ratios = [ratio(series, self.measurement[of.name], of.percent) for of in self.references]
            cells = [series.name, number(rate.median), f"{number(rate.low)}–{number(rate.high)}", *ratios]
            found.append((*cells, *(column.get(series.name, "–") for column in columns.values())))
        return found

    def raw(self) -> dict[str, object]:
        """Returns the samples, and the statistics made of them, for the JSON."""
        measured = self.measurement
        summary = {
            series.name: {
                "rate": asdict(series.rate),
                "ratios": {of.heading: asdict(series.ratio(measured[of.name])) for of in self.references},
            }
            for series in measured.series
        }
        return {**asdict(self), "summary": summary}


@dataclass(frozen=True)
class Section:
    """A further table, below the main one."""

    title: str
    rows: tuple[Cells, ...]
    """The heading first."""
    note: str = ""
    raw: dict[str, object] = field(default_factory=dict)
    """Holds what the table was made of, for the JSON."""


class Picture(NamedTuple):
    """A picture that stands near the top of the report."""

    what: str
    """Says what it shows, for those who do not see it."""
    png: bytes


@dataclass(frozen=True)
class Report:
    """Everything a reader needs to judge the numbers, and to repeat them."""

    theme: str
    """First part of the file names."""
    title: str
    command: str
    environment: Environment
    settings: dict[str, str | int | float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    """Verdicts, which stand at the top."""
    rates: Rates | None = None
    """The main table, where rates were measured."""
    picture: Picture | None = None
    """Without one, a report with rates gets a bar chart of them."""
    not_measured: dict[str, str] = field(default_factory=dict)
    """Name → why."""
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()
    raw: dict[str, object] = field(default_factory=dict)
    """Numbers that neither ``rates`` nor a section holds, for the JSON."""
    quick: bool = False
    """Made with --quick: fewer rounds, so a draft."""

    @property
    def stem(self) -> str:
        """The file names' common part, <theme>_<hardware>_<date>."""
        return f"{self.theme}_{self.environment.hardware}_{self.environment.date[:10]}"

    @property
    def settings_hash(self) -> str:
        """Sixteen hexadecimal digits that differ where theme or settings differ."""
        said = json.dumps([self.theme, self.settings], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def origin(self) -> str:
        """One line that says where the numbers come from, and how often each was measured."""
        place = origin(self.environment)
        if self.rates is None:
            return place
        measured = self.rates.measurement
        times = f"{measured.rounds} interleaved rounds after {measured.warmup} warm-up"
        if (processes := measured.processes) > 1:
            times += f", in each of {processes} processes"
        return f"{place}; median and inter-quartile range of {times}"


def origin(made: Environment) -> str:
    """Returns machine, day and commit in a line."""
    return f"{made.cpu}, {made.cores} cores; {made.date[:10]}; commit {commit(made, 10)}"


def commit(made: Environment, digits: int = 40) -> str:
    """Returns the commit's first digits, and whether the code differed from it."""
    return made.commit[:digits] + (" with local changes" if made.dirty else "")


def number(value: float) -> str:
    """Returns a rate for a table: whole from 100 on, else three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(series: Series, baseline: Series, percent: bool) -> str:
    """Returns how many times the baseline's rate this one's is, with the quartiles."""
    if series is baseline:
        return "100 %" if percent else "1"
    found = series.ratio(baseline)
    scale, digits, sign = (100, 1, " %") if percent else (1, 2, "×")
    low, high = f"{scale * found.low:.{digits}f}", f"{scale * found.high:.{digits}f}"
    return f"{scale * found.median:.{digits}f}{sign} ({low}–{high})"
