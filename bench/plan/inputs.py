"""What a plan begins with: the cost of an image, from a loader's report, and a step's time, from a step's report."""

from pathlib import Path

from bench.plan.arithmetic import BUILT_IN, Mode
from bench.plan.devices import named
from bench.report import Report
from bench.report.schema import load
from pipelines.errors import DataError

_PIPELINES = ("ffcv", "ffcv, planes", "dali", "torchvision")
_READ = "What is read"


def modes(path: Path | None) -> tuple[Mode, ...]:
    """Returns the modes of a loader's report, or the built-in ones. Raises DataError for a report of another kind."""
    if path is None:
        return BUILT_IN
    report = load(path)
    threads = report.settings.get("threads")
    if report.theme != "loader" or report.rates is None or not isinstance(threads, int):
        raise DataError(f"--loader takes a report of python -m bench loader (got one of bench {report.theme}).")
    source, kilobytes = f"{report.stem}.json", _kilobytes(report)
    rates = {series.name: series.rate.median for series in report.rates.measurement.series}
    return tuple(
        Mode(name, 1000 * threads / rates[name], kilobytes[name], source)
        for name in _PIPELINES
        if name in rates and name in kilobytes
    )


def step(name: str, step_ms: float | None, path: Path | None) -> tuple[str, float, str]:
    """Returns a device's title, a step's seconds and their source: of a step's report, or as ``devices.named`` does."""
    if path is None:
        return named(name, step_ms)
    report = load(path)
    if report.theme != "step" or report.rates is None or report.rates.measurement.unit != "steps/s":
        raise DataError(f"--step takes a report of python -m bench step (got one of bench {report.theme}).")
    fastest = max(report.rates.measurement.series, key=lambda each: each.rate.median)
    return report.environment.cpu, 1 / fastest.rate.median, f"{report.stem}.json: {fastest.name}"


def _kilobytes(report: Report) -> dict[str, float]:
    """Returns what each contestant reads for an image; older reports know only the files' mean size."""
    for section in report.sections:
        if section.title == _READ:
            return {row[0]: float(row[1]) for row in section.rows[1:]}
    mean = float(str(report.settings.get("mean size", "110 kB")).split()[0])
    return {name: mean for name in _PIPELINES if "planes" not in name}
