"""Reports of the bench with rates that a test chooses."""

from collections.abc import Sequence
from dataclasses import replace

from bench.environment import Environment
from bench.measure import Measurement, Sample, Series
from bench.report import Rates, Report

MADE = Environment(
    cpu="AMD EPYC 9554 64-Core Processor",
    cores=2,
    memory_gib=23.5,
    gpus=(),
    os="Debian",
    python="3.11.7",
    versions={"torch": "2.14.1"},
    commit="0123456789abcdef",
    dirty=False,
    date="2030-01-02T03:04:05+00:00",
    load_before=(0.1, 0.2, 0.3),
    load_after=(1.0, 0.5, 0.3),
)


def report_of(rates: dict[str, Sequence[Sequence[float]]], **changes: object) -> Report:
    """A loader's report: contestant → for each process its rounds' rates, images per second."""
    series = tuple(
        Series(
            name,
            tuple(
                Sample(round_, 0, 1000, 1000 / rate, process)
                for process, rounds in enumerate(processes)
                for round_, rate in enumerate(rounds)
            ),
        )
        for name, processes in rates.items()
    )
    rounds = len(next(iter(rates.values()))[0])
    plain = Report(
        theme="loader",
        title="Loader",
        command="python -m bench loader",
        environment=MADE,
        settings={"threads": 2},
        rates=Rates(Measurement("images/s", rounds, 1, series)),
    )
    return replace(plain, **changes)
