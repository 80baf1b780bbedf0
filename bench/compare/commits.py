"""Two commits measured in turns: each in a checkout of its own, each run a process."""

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

    Each commit has a cache of its own, so that neither reads what the other one converted. The checkouts are clones and
    no worktrees: this repository learns nothing of them, so nothing stays in it however this process ends.
    """
    reports: tuple[list[Report], list[Report]] = ([], [])
    hashes = [_commit(name) for name in commits]
    with tempfile.TemporaryDirectory() as folder:
        checkouts = [Path(folder, name) for name in ("old", "new")]
        for commit, checkout in zip(hashes, checkouts, strict=True):
            _git("clone", "--quiet", "--shared", "--no-checkout", str(CHECKOUT), str(checkout))
            _git("-C", str(checkout), "checkout", "--quiet", "--detach", commit)
        with tqdm(total=2 * processes, unit=" processes", disable=None) as bar:
            for round_ in range(processes):
                for which in turns(2, round_):
                    bar.set_description(f"{commits[which]}, process {round_ + 1}")
                    reports[which].append(one_process(words, checkouts[which], Path(folder, f"cache_{which}")))
                    bar.update()
    old, new = (merged(found, f"python -m bench {' '.join(words)}") for found in reports)
    return old, new


def _commit(name: str) -> str:
    """Returns the hash of a commit of this checkout; raises DataError where it has none of this name."""
    try:
        return _git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    except DataError as error:
        raise DataError(f"This checkout has no commit {name!r}: name two that it has with --run.") from error


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"git {' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout.strip()
