"""Loader and step together: how close they come to sharing the cores without loss, and how long a device would wait.

End to end, loader and step compete for the same cores, so 1/(1/loader + 1/step) is all that can be hoped for. A
simulated device takes a batch every T ms by sleeping: from T slightly above the loader's own time it should not wait.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bench.arguments import STEP
from bench.four_views import LABELED_VIEWS, UNLABELED_VIEWS, open_feed
from bench.measure import Contestant, Measurement, Spread, measure
from bench.report import Section
from bench.report.bars import Judged, verdict
from bench.report.contents import Cells
from bench.step.contestants import OurStep, Run, repeated
from pipelines.beton import turbojpeg
from pipelines.errors import MissingDependency
from pipelines.samples.listing import Listing
from pipelines.sources.feed import Feed
from pipelines.views import TrainingViews

LOADER, ALONE, TOGETHER = "loader alone", "step alone, resident data", "end to end"
FACTORS = (1.1, 1.25, 1.5, 2.0)
"""Multiples of the loader's own time per batch that the simulated device takes for one."""
_SHARE_MUST, _SHARE_GOAL = 0.90, 0.97
_WAIT_MUST, _WAIT_GOAL = 0.02, 0.005
_EDGE = 4
"""Batches that the source and the feed hold between them."""


def pipeline() -> str:
    """Returns the fastest pipeline that can decode JPEGs here."""
    try:
        turbojpeg.library()
    except MissingDependency:
        return "torchvision"
    return "ffcv"


def open_sized(listing: Listing, root: Path, size: int, threads: int, steps: int | None = None) -> Feed:
    """Opens the four-view recipe over the corpus, at the step's image size; epochs of ``steps``, or of all images."""
    labeled = TrainingViews(size=size, weak=LABELED_VIEWS.count)
    unlabeled = TrainingViews(size=size, weak=UNLABELED_VIEWS.weak, strong=UNLABELED_VIEWS.strong)
    return open_feed(pipeline(), listing, root, threads, unlabeled, steps, labeled)


def together(feed: Feed, step: OurStep, resident: Run, rounds: int) -> tuple[Measurement, Spread]:
    """Returns the rates of each alone and of both, and per round end to end's share of 1/(1/loader + 1/step)."""

    def load() -> int:
        return sum(1 for _ in feed)

    def train() -> int:
        for number, batch in enumerate(feed):
            step.run(batch, number)
        return len(feed)

    contestants = [
        Contestant(LOADER, load),
        Contestant(ALONE, repeated(resident, len(feed))),
        Contestant(TOGETHER, train),
    ]
    measured = measure(contestants, unit="steps/s", rounds=rounds)
    loader, alone, both = (np.array(measured[name].rates) for name in (LOADER, ALONE, TOGETHER))
    return measured, Spread.of(both * (1 / loader + 1 / alone))


@dataclass(frozen=True)
class Consumed:
    """What a consumer saw of an epoch, but for its ends, where the pipeline fills or drains."""

    seconds: float
    waited: float
    batches: int

    @property
    def share(self) -> float:
        """The share of the time that the consumer waited."""
        return self.waited / self.seconds


def consume(feed: Feed, seconds: float, sleep: Callable[[float], object] = time.sleep) -> Consumed:
    """Takes an epoch's batches, each for so many ``seconds``; with 0 the loader's own pace is what remains."""
    edge = min(_EDGE, (len(feed) - 1) // 4)
    batches, waited = iter(feed), 0.0
    for _ in islice(batches, edge):
        sleep(seconds)
    batch = coming = next(batches)
    begin = time.perf_counter()
    for _ in range(timed := len(feed) - 1 - 2 * edge):
        sleep(seconds)
        asked = time.perf_counter()
        coming = next(batches)
        waited += time.perf_counter() - asked
        batch = coming  # a device holds its batch until it is done with it; giving it back is not waiting
    end = time.perf_counter()
    del batch, coming
    for _ in batches:  # to the end, so that the feed stands at the next epoch
        pass
    return Consumed(end - begin, waited, timed)


def saturation(feed: Feed, rounds: int) -> tuple[Spread, dict[float, Spread]]:
    """Returns the loader's own seconds per batch, and the waiting share of a device that takes FACTORS times as long.

    The device follows the pace that the loader had in the same round.
    """
    own: list[float] = []
    shares: dict[float, list[float]] = {factor: [] for factor in FACTORS}
    for _ in range(rounds):
        alone = consume(feed, 0)
        own.append(alone.seconds / alone.batches)
        for factor, found in shares.items():
            found.append(consume(feed, factor * own[-1]).share)
    return Spread.of(own), {factor: Spread.of(found) for factor, found in shares.items()}


def rows(share: Spread, waits: dict[float, Spread]) -> list[Judged]:
    """Returns rows of the table of bars."""
    found: list[Judged] = [
        (
            "end to end, share of 1/(1/loader + 1/step)",
            f"{share.median:.1%} ({share.low:.1%}–{share.high:.1%})",
            _share_verdict(share, _SHARE_MUST),
            _share_verdict(share, _SHARE_GOAL),
        )
    ]
    for factor, wait in waits.items():
        found.append(
            (
                f"waiting share of a device that takes {factor:g}× the loader's time per batch",
                f"{wait.median:.2%} ({wait.low:.2%}–{wait.high:.2%})",
                _wait_verdict(wait, _WAIT_MUST),
                _wait_verdict(wait, _WAIT_GOAL),
            )
        )
    return found


def _share_verdict(share: Spread, least: float) -> str:
    return f"≥ {least:.0%}: {verdict(share.median >= least)}"


def _wait_verdict(wait: Spread, most: float) -> str:
    return f"< {most:.1%}: {verdict(wait.median < most)}"


def section(measured: Measurement, share: Spread, own: Spread, waits: dict[float, Spread]) -> Section:
    """Returns the table of the three rates: the loader alone, the step alone, both together."""
    table: list[Cells] = [("", "steps/s", "IQR", "images/s")]
    for series in measured.series:
        rate = series.rate
        table.append(
            (series.name, f"{rate.median:.3g}", f"{rate.low:.3g}–{rate.high:.3g}", f"{rate.median * STEP:,.0f}")
        )
    return Section(
        "Loader, step, end to end",
        tuple(table),
        f"Pipeline {pipeline()}; the loader needs {1000 * own.median:.1f} ms a batch where nothing else computes.",
        {
            "measurement": measured,
            "share": share,
            "loader seconds per batch": own,
            "waiting shares": {f"{factor:g}": wait for factor, wait in waits.items()},
        },
    )
