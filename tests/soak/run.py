"""Runs the long counts and writes their report, bench/reports/soak_<hardware>_<date>: python tests/soak/run.py

Most run beside each other, as many as there are cores. Those that measure time follow, one by one.
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from bench import environment
from bench.arguments import REPORTS
from bench.report import Report, Section, publish

MUST = {
    "saved on TERM, INT, USR1, USR2, HUP, XCPU and doubled TERM, INT": "48 of 48",
    "longest from a signal in an evaluation to the exit": "one batch + save",
    "kill -9, resumed to the same bits": "72 of 72",
    "most work lost by a kill in a step, saved after each step": "the step and the save before it",
    "restart after kill -9 of a rank, bit-equal": "3 of 3",
    "damaged newest checkpoint, resumed from the one before": "40 of 40",
    "loaded, of 1,000 flipped bits": "0",
    "500 of checkpoint: tracebacks, silent changes": "0, 0",
    "500 of records: tracebacks, silent changes": "0, 0",
    "500 of beton: tracebacks, silent changes": "0, 0",
    "500 checkpoints of another structure: tracebacks, changed states": "0, 0",
    "step time added by saving every 10 minutes": "< 1 %",
    "equal code compared: no difference shown": "20 of 20",
    "a tenth slower: slower": "20 of 20",
    "largest device of planes, of the loader's rate": "≥ 90 %",
    "plan beside saturate": "within 10 %",
}
"""What each bar that a test measures must be. A test that fails states nothing: its bar is "not met"."""


def main() -> int:
    """Returns the first exit status of pytest that is not 0."""
    made = environment.record()
    status, cases = run("soak and not alone", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
    status_alone, alone = run("soak and alone")
    publish(report(cases + alone, made.ended()), REPORTS)
    return status or status_alone


def run(marked: str, *options: str) -> tuple[int, list[ElementTree.Element]]:
    """Runs the tests that are ``marked`` so; returns pytest's exit status and its test cases."""
    with tempfile.TemporaryDirectory() as folder:
        results, tests = Path(folder, "results.xml"), Path(__file__).parents[1]
        words = ["-m", marked, *options, "-o", "junit_family=xunit1", f"--junitxml={results}", str(tests)]
        status = subprocess.run([sys.executable, "-m", "pytest", *words], check=False).returncode
        return status, list(ElementTree.parse(results).iter("testcase"))


def report(cases: list[ElementTree.Element], made: environment.Environment) -> Report:
    """Returns the report of pytest's test cases: a row for each with its outcome and seconds."""
    rows = tuple((case.get("name", ""), _outcome(case), f"{float(case.get('time', 0)):.0f}") for case in cases)
    measured = {bar: value for case in cases for bar, value in _measured(case)}
    bars = tuple((bar, must, measured.get(bar, "not met")) for bar, must in MUST.items())
    return Report(
        theme="soak",
        title="Long counts",
        command="make soak",
        environment=made,
        sections=(
            Section("Bars", (("bar", "must", "measured"), *bars)),
            Section("Counts", (("count", "outcome", "seconds"), *rows)),
        ),
        raw={
            "bars": [dict(zip(("bar", "must", "measured"), row, strict=True)) for row in bars],
            "counts": [dict(zip(("count", "outcome", "seconds"), row, strict=True)) for row in rows],
        },
    )


def _measured(case: ElementTree.Element) -> list[tuple[str, str]]:
    """Returns what a test that passed says it measured: (bar, value)."""
    if _outcome(case) != "passed":
        return []
    return [(found.get("name", ""), found.get("value", "")) for found in case.iter("property")]


def _outcome(case: ElementTree.Element) -> str:
    """Returns 'passed', or what pytest says instead."""
    found = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    return found[0] if found else "passed"


if __name__ == "__main__":
    sys.exit(main())
