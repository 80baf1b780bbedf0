"""Runs the long counts and writes their report, bench/reports/soak_<hardware>_<date>: python tests/soak/run.py"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from bench import environment
from bench.arguments import REPORTS
from bench.report import Report, Section, publish


def main() -> int:
    """Returns pytest's exit status."""
    made = environment.record()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.xml")
        here = Path(__file__).parent
        status = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "soak", f"--junitxml={results}", here], check=False
        ).returncode
        cases = list(ElementTree.parse(results).iter("testcase"))
    publish(report(cases, made.ended()), REPORTS)
    return status


def report(cases: list[ElementTree.Element], made: environment.Environment) -> Report:
    """Returns the report of pytest's test cases: a row for each with its outcome and seconds."""
    rows = tuple((case.get("name", ""), _outcome(case), f"{float(case.get('time', 0)):.0f}") for case in cases)
    return Report(
        theme="soak",
        title="Long counts",
        command="make soak",
        environment=made,
        sections=(Section("Counts", (("count", "outcome", "seconds"), *rows)),),
        raw={"counts": [dict(zip(("count", "outcome", "seconds"), row, strict=True)) for row in rows]},
    )


def _outcome(case: ElementTree.Element) -> str:
    """Returns 'passed', or what pytest says instead."""
    found = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    return found[0] if found else "passed"


if __name__ == "__main__":
    sys.exit(main())
