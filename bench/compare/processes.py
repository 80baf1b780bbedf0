"""The same subcommand in several processes of its own, and one report of them all."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from bench.measure import Measurement, Series
from bench.report import Report, publish
from bench.report.schema import load
from pipelines.errors import DataError, UserError

CHECKOUT = Path(__file__).parents[2]
_LAST_LINES = 5


def repeated(words: Sequence[str], processes: int, out: Path) -> int:
    """Runs ``python -m bench WORDS`` in so many processes, one after another, and publishes one report. Returns 0."""
    words = without_options(words, "--processes", "--out")
    with tqdm(range(processes), "processes", unit=" processes", disable=None) as numbers:
        reports = [one_process([*words, "--processes", "1"]) for _ in numbers]  # 1: the option may be abbreviated
    publish(merged(reports, f"python -m bench {' '.join(words)} --processes {processes}"), out)
    return 0


def one_process(words: Sequence[str], checkout: Path = CHECKOUT, cache: Path | None = None) -> Report:
    """Returns the report of a subcommand that runs in a process of its own, of the code in ``checkout``.

    ``cache``: what the process takes for the user's cache. Raises DataError with its last lines where it fails.
    """
    caches = {} if cache is None else {"XDG_CACHE_HOME": str(cache)}
    environment = os.environ | caches | {"PYTHONPATH": os.pathsep.join([str(checkout), *_inherited()])}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench", *words, "--out", folder]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        written = list(Path(folder).glob("*.json"))
        if done.returncode or len(written) != 1:
            last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
            raise DataError(f"python -m bench {' '.join(words)} failed with status {done.returncode}:\n{last}")
        return load(written[0])


def merged(reports: Sequence[Report], command: str) -> Report:
    """Returns one report of the same measurement in several processes; further tables are those of the first one.

    Contestants that not every process measured are left out. Raises UserError where the reports have no rates.
    """
    measurements = [report.rates.measurement for report in reports if report.rates]
    if len(measurements) < len(reports) or not reports:
        raise UserError(f"{command} has no rates; --processes takes a subcommand that has.")
    first, rates = reports[0], reports[0].rates
    assert rates is not None
    names = [each.name for each in measurements[0].series]
    names = [name for name in names if all(name in {each.name for each in m.series} for m in measurements)]
    series = tuple(
        Series(
            name,
            tuple(replace(s, process=number) for number, m in enumerate(measurements) for s in m[name].samples),
        )
        for name in names
    )
    one = measurements[0]
    together = replace(rates, measurement=Measurement(one.unit, one.rounds, one.warmup, series))
    return replace(
        first,
        command=command,
        rates=together,
        environment=replace(first.environment, load_after=reports[-1].environment.load_after),
        notes=(*first.notes, f"{len(reports)} processes, one after another; further tables are those of the first."),
    )


def without_options(words: Sequence[str], *options: str) -> list[str]:
    """Returns the words without these options and their values."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in options:
        parser.add_argument(option)
    return parser.parse_known_args(list(words))[1]


def _inherited() -> list[str]:
    """Returns the folders of PYTHONPATH but for this checkout, so that another one's code is not hidden."""
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [folder for folder in folders if folder and Path(folder).resolve() != CHECKOUT]
