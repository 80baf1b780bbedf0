"""Two commits measured in turns: each in a git worktree of its own, each run a process."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bench.compare.processes import CHECKOUT, merged, one_process
from bench.measure import turns
from bench.report import Report
from pipelines.errors import DataError


def measure_commits(commits: tuple[str, str], words: Sequence[str], processes: int) -> tuple[Report, Report]:
    """Runs ``python -m bench WORDS`` of each commit in so many processes, in turns, and returns a report of each.

    Each commit has a cache of its own, so that neither reads what the other one converted.
    """
    reports: tuple[list[Report], list[Report]] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        checkouts = [Path(folder, name) for name in ("old", "new")]
        try:
            for commit, checkout in zip(commits, checkouts, strict=True):
                _git("worktree", "add", "--detach", "--quiet", str(checkout), commit)
            with tqdm(total=2 * processes, unit=" processes", disable=None) as bar:
                for round_ in range(processes):
                    for which in turns(2, round_):
                        bar.set_description(f"{commits[which]}, process {round_ + 1}")
                        reports[which].append(one_process(words, checkouts[which], Path(folder, f"cache_{which}")))
                        bar.update()
        finally:
            for checkout in filter(Path.exists, checkouts):
                _git("worktree", "remove", "--force", str(checkout))
    old, new = (merged(found, f"python -m bench {' '.join(words)}") for found in reports)
    return old, new


def _git(*words: str) -> None:
    done = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(
            f"git {' '.join(words)} failed: {done.stderr.strip()} Name commits of this checkout with --run."
        )
