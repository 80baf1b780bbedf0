"""Finds the fastest device that a host keeps busy, by bisection on the time that an emulated step takes.

A loader is alone where nothing uses its batches. From that the plan foretells what is kept busy.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from bench.arguments import STEP, cores
from bench.plan.account import setup_of
from bench.plan.arithmetic import Host, Mode, row
from bench.plan.simulation import simulate
from bench.saturate.account import MUST, Trial
from bench.saturate.rank import RankSetting, Seen, cores_of_each
from pipelines.errors import DataError

WITHIN = 0.02
"""Share of a step's time to which it is found."""
_FIRST, _GROWTH, _MOST = 1.1, 1.3, 16.0
"""Step times that are tried until one is long enough, as multiples of the loader's own time; the last one."""
_IN_MEMORY = 1e6
"""Memory and rates of a host that never reads from a disk and has no network."""
Measure = Callable[[RankSetting], list[Seen]]


class Largest(NamedTuple):
    """Holds the fastest device that a pipeline keeps busy, on all cores of this process. Times in seconds."""

    pipeline: str
    alone: float
    """Images per second of the loader alone, all ranks together."""
    step: float
    """The shortest that is kept busy."""
    foretold: float
    """The same, by the plan."""
    tried: dict[float, Trial]
    """Step → what was seen."""
    cores: int
    """That all ranks shared."""

    @property
    def found(self) -> Trial:
        """Returns what was seen at the shortest step that is kept busy."""
        return self.tried[self.step]

    @property
    def ranks(self) -> int:
        """Returns how many accelerators there were."""
        return len(self.found.ranks)

    @property
    def share(self) -> float:
        """Returns the rate there, as a share of the loader's alone."""
        return self.found.rate / self.alone

    @property
    def apart(self) -> float:
        """Returns how far the plan is from what was seen, as a share of the latter."""
        return self.foretold / self.step - 1

    def cores_for(self, seconds: float) -> float:
        """Returns how many such cores one device takes whose step lasts so many ``seconds``."""
        return self.cores * self.step / (self.ranks * seconds)


def fastest_step(utilization: Callable[[float], float], alone: float, within: float = WITHIN) -> float:
    """Returns the shortest step, in seconds, whose ``utilization`` is MUST or more, to a share ``within`` of itself.

    ``alone``: the loader's own seconds for a batch. Raises DataError where 16 times that is too short, too.
    """
    late, kept = MUST * alone, _FIRST * alone  # utilization is at most step / alone
    while utilization(kept) < MUST:
        if kept > _MOST * alone:
            raise DataError(f"A step of {1000 * kept:.0f} ms is not kept busy: something else delays all of them.")
        late, kept = kept, _GROWTH * kept
    while kept > (1 + within) * late:
        middle = math.sqrt(late * kept)
        if utilization(middle) < MUST:
            late = middle
        else:
            kept = middle
    return kept


def largest(setting: RankSetting, measured: Measure, within: float = WITHIN) -> Largest:
    """Measures the loader alone, then steps until the shortest is found that it keeps busy; ``setting`` has no step.

    Raises DataError as ``fastest_step`` and ``measured`` do.
    """
    alone = Trial(setting.pipeline, measured(setting))
    by_itself = alone if setting.ranks == 1 else Trial(setting.pipeline, measured(_one(setting)))
    tried: dict[float, Trial] = {}

    def utilization(step: float) -> float:
        tried[step] = Trial(setting.pipeline, measured(replace(setting, step=step)))
        return tried[step].slowest

    step = fastest_step(utilization, STEP * setting.ranks / alone.rate, within)
    return Largest(setting.pipeline, alone.rate, step, foretold(by_itself.rate, setting.ranks, within), tried, cores())


def foretold(rate: float, ranks: int, within: float = WITHIN) -> float:
    """Returns the shortest step that so many accelerators are kept busy with, by the plan.

    ``rate``: images per second of one loader alone on all cores.
    """
    core_ms = 1000 * cores() / rate
    host = Host(ranks, cores(), _IN_MEMORY, _IN_MEMORY, _IN_MEMORY, step_cores=0.0)  # a step that sleeps takes no core
    mode = Mode("measured", core_ms, 0.0, "the loader alone")

    def utilization(step: float) -> float:
        planned = setup_of(row(ranks, host, mode, step), host, step)
        return 1 - simulate(replace(planned, step_variation=0.0)).idle  # nor do sleeping steps vary

    return fastest_step(utilization, STEP * ranks / rate, within)


def _one(setting: RankSetting) -> RankSetting:
    return replace(setting, ranks=1, threads=cores_of_each(1))
