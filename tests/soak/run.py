"""Runs the long counts and writes bench/reports/soak_<hardware>_<date>.md: python tests/soak/run.py"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from bench import environment
from bench.report import FOLDER
from pipelines.files import replacing


def main() -> int:
    made = environment.record()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.xml")
        here = Path(__file__).parent
        status = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "soak", f"--junitxml={results}", here], check=False
        ).returncode
        cases = list(ElementTree.parse(results).iter("testcase"))
    rows = [f"| {case.get('name')} | {_outcome(case)} | {float(case.get('time', 0)):.0f} |" for case in cases]
    ended = made.ended()
    commit = made.commit + (" with local changes" if made.dirty else "")
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    text = "\n".join(
        [
            "# Long counts (make soak)",
            "",
            "| count | outcome | seconds |",
            "|---|---|--:|",
            *rows,
            "",
            f"{made.cpu}, {made.cores} cores, {made.os}, Python {made.python}; {versions}; commit {commit}; "
            f"{made.date}; load {made.load_before[0]} → {ended.load_after[0]}",
            "",
        ]
    )
    with replacing(FOLDER / f"soak_{made.hardware}_{made.date[:10]}.md") as building:
        building.write_text(text, encoding="utf-8")
    return status


def _outcome(case: ElementTree.Element) -> str:
    found = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    return found[0] if found else "passed"


if __name__ == "__main__":
    sys.exit(main())
