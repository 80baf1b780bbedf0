"""Compares two reports row by row, or measures two commits in turns and compares them.

A row's verdict comes from a rank test on the processes' median rates at p < 0.01, and a difference of 2 % at least. So
a report needs five processes: ``python -m bench loader --processes 5``. Two commits are compared turn by turn, so that
the machine's drift cancels; that takes eight. Equal code is called different in at most one row of a hundred.
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import REPEATED, positive
from pipelines import console
from pipelines.errors import UserError

if TYPE_CHECKING:
    from bench.compare.reports import Compared
    from bench.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench compare``."""
    parser.add_argument("reports", nargs="*", type=Path, metavar="REPORT", help="two .json files, the older first")
    parser.add_argument(
        "--run",
        dest="commits",
        nargs=3,
        metavar=("OLD", "NEW", "SUBCOMMAND"),
        help="measure two commits instead of reading reports",
    )
    parser.add_argument("--options", default="", metavar="WORDS", help='of SUBCOMMAND, such as --options="--rounds 3"')
    parser.add_argument("--processes", type=positive, default=10, metavar="N", help="--run: of each commit")
    parser.add_argument(
        "--fail-below", type=float, metavar="RATIO", help="exit with 1 where a row is slower than this, or may be"
    )
    parser.add_argument("--anyway", action="store_true", help="compare in spite of other hardware, settings or recipe")
    parser.add_argument("--html", type=_page, metavar="FILE", help="write a page: the rows, and a plot of their ratios")


def run(arguments: argparse.Namespace) -> int:
    """Prints the table and returns 0; 1 where --fail-below finds a row that is too slow, or too noisy to tell."""
    from bench.compare import reports

    if arguments.fail_below is not None and not 0 < arguments.fail_below <= 1:
        raise UserError(f"--fail-below must be a ratio within 0 and 1, such as 0.95 (got {arguments.fail_below:g}).")
    old, new = _measured(arguments) if arguments.commits else _read(arguments)
    if arguments.fail_below is not None:
        _require_fit_for_gate(old, new)
    different = reports.differences(old, new)
    if different and not arguments.anyway:
        listed = "\n".join(f"  {line}" for line in different)
        raise UserError(f"The reports differ in more than the code:\n{listed}\n--anyway compares them all the same.")
    compared = reports.compare_reports(old, new, in_turns=bool(arguments.commits))
    _show(old, new, compared)
    remarks = [f"Compared anyway, though they differ in {line}." for line in different] + reports.remarks(old, new)
    for line in remarks:
        console.say(line)
    if arguments.html is not None:
        from bench.compare import page
        from pipelines.names import readable

        page.write(arguments.html, old, new, compared, remarks)
        console.say(readable(arguments.html))
    if arguments.fail_below is None:
        return 0
    failed = too_slow(compared, arguments.fail_below)
    for line in failed:
        console.say(f"FAILED: {line}", error=True)
    return 1 if failed else 0


def too_slow(compared: "Compared", limit: float) -> list[str]:
    """Returns why a gate at ``limit`` (a ratio) does not let the second report pass, a line a row."""
    lines = [f"{name}: only one report has it" for name in compared.missing]
    for row in compared.rows:
        found = row.found
        if found.verdict == "slower" and found.ratio < limit:
            lines.append(f"{row.name}: {found.ratio:.3f} of the first report's rate, below {limit:g}")
        elif found.verdict == "too noisy" and found.low < limit:
            lines.append(f"{row.name}: too noisy to exclude {found.low:.3f}, below {limit:g}; take more --processes")
    return lines


def _page(text: str) -> Path:
    """Returns the path of a page, so that a report's JSON is never overwritten by one."""
    if not text.endswith(".html"):
        raise argparse.ArgumentTypeError(f"must end in .html (got {text})")
    return Path(text)


def _measured(arguments: argparse.Namespace) -> "tuple[Report, Report]":
    from bench.compare.commits import measure_commits
    from bench.compare.statistics import FEWEST_TURNS

    if arguments.reports:
        raise UserError("--run measures two commits: name no report beside it.")
    if arguments.fail_below is not None and arguments.processes < FEWEST_TURNS:
        raise UserError(f"--fail-below needs {FEWEST_TURNS} --processes of each commit (got {arguments.processes}).")
    old, new, subcommand = arguments.commits
    if subcommand not in REPEATED:
        raise UserError(f"--run measures rates, which {', '.join(REPEATED)} have (got {subcommand}).")
    return measure_commits((old, new), [subcommand, *shlex.split(arguments.options)], arguments.processes)


def _read(arguments: argparse.Namespace) -> "tuple[Report, Report]":
    from bench.report.schema import load

    if len(arguments.reports) != 2:
        raise UserError(f"compare takes two reports (got {len(arguments.reports)}), or --run OLD NEW SUBCOMMAND.")
    first, second = arguments.reports
    return load(first), load(second)


def _require_fit_for_gate(old: "Report", new: "Report") -> None:
    from bench.compare.statistics import FEWEST

    for report in (old, new):
        if report.quick:
            raise UserError(f"{report.title!r} was made with --quick, which no gate takes; repeat it without.")
        if report.rates and report.rates.measurement.processes < FEWEST:
            raise UserError(
                f"{report.title!r} has {report.rates.measurement.processes} process(es), and --fail-below needs "
                f"{FEWEST} of each: python -m bench {report.theme} --processes {FEWEST}"
            )


def _show(old: "Report", new: "Report", compared: "Compared") -> None:
    from rich.console import Console

    from bench.compare.reports import table
    from bench.report.contents import commit
    from bench.report.document import show_table

    title = f"{old.title}: {commit(old.environment, 10)} → {commit(new.environment, 10)}"
    counts = sorted({count for row in compared.rows for count in row.processes})
    caption = f"{compared.unit}, median of each process; processes of a report: {', '.join(map(str, counts))}"
    show_table(title, table(compared), Console(), caption)
    if compared.missing:
        console.say(f"In one report only: {', '.join(compared.missing)}.")
