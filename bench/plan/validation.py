"""The simulation beside real processes: a loader before a step that sleeps, and two ranks of which one is slowed.

The simulation is told how long a batch takes the loader alone, and how much that varies, measured in the same round; it
foretells how long a step waits, and how many steps a second there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench import corpus
from bench.arguments import STEP
from bench.environment import Environment
from bench.measure import Spread
from bench.plan.simulation import Setup, simulate
from bench.report import Report, Section
from bench.report.contents import Cells
from bench.saturate.processes import measure
from bench.saturate.rank import RankSetting, Seen, cores_of_each
from bench.step.end_to_end import pipeline

FACTORS, QUICK_FACTORS = (0.5, 0.9, 1.1, 1.5, 2.0), (0.5, 1.1, 2.0)
"""Step times as multiples of the loader's own time for a batch."""
_ROUNDS, _QUICK_ROUNDS, _STEPS = 3, 1, 40
_QUEUED = 4
"""Batches that source and feed hold between them."""
_SLOWED, _UNHURRIED, _SLOW_STEPS = 1.5, 3.0, 20
"""How many times as long the slowed rank's step takes; both steps over a loader's time; how many are counted."""
_WITHIN, _POINTS = 0.10, 0.02
"""Relative difference that counts as agreement, and for shares of time the absolute one."""
Measure = Callable[[RankSetting], list[Seen]]


class Pair(NamedTuple):
    """A share of time and steps per second, each foretold and seen."""

    share_foretold: float
    share_seen: float
    rate_foretold: float
    rate_seen: float


class Compared(NamedTuple):
    """A case: what was foretold, and what was seen in each round."""

    case: str
    foretold: Spread
    seen: Spread
    share: bool
    """Whether it is a share of time; otherwise it is steps per second."""

    @property
    def agrees(self) -> bool:
        """Returns whether they agree within a tenth, within the rounds' quartiles or, for shares, within two points."""
        apart = abs(self.foretold.median - self.seen.median)
        if apart <= _WITHIN * self.seen.median or self.seen.low <= self.foretold.median <= self.seen.high:
            return True
        return self.share and apart <= _POINTS


def compare_loader(setting: RankSetting, factor: float, alone: Seen, measured: Measure = measure) -> Pair:
    """Returns what is foretold and what is seen of a step that takes ``factor`` times what the loader takes ``alone``.

    That is, as it was measured in the same round.
    """
    batch = alone.elapsed / alone.steps
    (seen,) = measured(replace(setting, step=factor * batch))
    found = simulate(Setup(factor * batch, batch, prefetch=_QUEUED, decode_variation=alone.variation))
    return Pair(found.waiting, seen.waited / seen.elapsed, found.rate, seen.steps / seen.elapsed)


def compare_ranks(setting: RankSetting, measured: Measure = measure) -> Pair:
    """Returns what is foretold and what is seen of two ranks, of which the second is slowed and no loader is late."""
    both = replace(setting, ranks=2, threads=1)
    batch = max(seen.elapsed / seen.steps for seen in measured(both))
    step = _UNHURRIED * batch
    found = simulate(Setup(step=step, decode=batch, ranks=2, slowed={1: _SLOWED}, prefetch=_QUEUED))
    ranks = measured(replace(both, step=step, slowed={1: _SLOWED}, steps=_SLOW_STEPS))
    behind = sum(seen.behind / seen.elapsed for seen in ranks) / len(ranks)
    return Pair(found.behind, behind, found.rate, ranks[0].steps / ranks[0].elapsed)


def report(folder: Path, quick: bool, made: Environment, measured: Measure = measure) -> Report:
    """Runs all cases and returns the report; ``folder`` keeps the bench's images."""
    root = corpus.build(folder, 5 * STEP)
    setting = RankSetting(pipeline(), root, 1, cores_of_each(1), 0.0, _STEPS)
    rounds, factors = (_QUICK_ROUNDS, QUICK_FACTORS) if quick else (_ROUNDS, FACTORS)
    pairs: dict[tuple[str, str], list[Pair]] = {}
    for _ in range(rounds):
        (alone,) = measured(setting)
        for factor in factors:
            case = (f"step of {factor:g} × the loader's time", "waiting")
            pairs.setdefault(case, []).append(compare_loader(setting, factor, alone, measured))
        case = (f"two ranks, one slowed {_SLOWED:g} times", "behind")
        pairs.setdefault(case, []).append(compare_ranks(setting, measured))
    found = []
    for (what, share), seen in pairs.items():
        shares, rates = [each[:2] for each in seen], [each[2:] for each in seen]
        found += [_compared(f"{what}: {share}", shares, True), _compared(f"{what}: steps/s", rates, False)]
    return _report(found, setting, rounds, quick, made.ended())


def _compared(case: str, pairs: Sequence[tuple[float, float]], share: bool) -> Compared:
    foretold, seen = zip(*pairs, strict=True)
    return Compared(case, Spread.of(foretold), Spread.of(seen), share)


def _report(found: list[Compared], setting: RankSetting, rounds: int, quick: bool, made: Environment) -> Report:
    rows: list[Cells] = [("", "foretold", "seen", "IQR", "agree")]
    for each in found:
        shown = [f"{v:.1%}" if each.share else f"{v:.2f}" for v in (each.foretold.median, *vars(each.seen).values())]
        rows.append((each.case, shown[0], shown[1], f"{shown[2]}–{shown[3]}", "yes" if each.agrees else "no"))
    agreed = sum(each.agrees for each in found)
    return Report(
        theme="validation",
        title="The plan's simulation beside real processes",
        command="python -m bench plan --validate" + " --quick" * quick,
        environment=made,
        settings={"pipeline": setting.pipeline, "threads": setting.threads, "steps": _STEPS, "rounds": rounds},
        remarks=(f"{agreed} of {len(found)} cases agree.",),
        sections=(
            Section(
                "Foretold and seen",
                tuple(rows),
                f"They agree within {_WITHIN:.0%}, within the quartiles of the rounds or, for shares of time, within "
                f"{100 * _POINTS:.0f} points.",
                {"cases": [{**each._asdict(), "agrees": each.agrees} for each in found]},
            ),
        ),
        quick=quick,
    )
