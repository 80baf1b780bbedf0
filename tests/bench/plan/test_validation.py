"""The validation of the simulation, with ranks that behave as they should and with others."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure import Spread
from bench.plan import validation
from bench.plan.validation import Compared, compare_loader, compare_ranks
from bench.saturate.rank import RankSetting, Seen
from tests.support.bench_reports import MADE

SETTING = RankSetting("torchvision", Path(), 1, 2, 0.0, 40)
LOADER = 0.05


def ideal(setting: RankSetting) -> list[Seen]:
    """Ranks whose loader takes LOADER a batch, and whose step exactly its time."""
    steps = [setting.slowed.get(rank, 1.0) * setting.step for rank in range(setting.ranks)]
    lasts = max(LOADER, *steps)
    return [
        Seen(
            setting.steps,
            setting.steps * lasts,
            setting.steps * step,
            setting.steps * (lasts - step) * (setting.ranks == 1),
            setting.steps * (lasts - step) * (setting.ranks > 1),
            1.0,
            0.0,
            0,
            0,
        )
        for step in steps
    ]


@pytest.mark.parametrize("factor", validation.FACTORS)
def test_an_ideal_loader_is_foretold(factor: float) -> None:
    found = compare_loader(SETTING, factor, ideal(SETTING)[0], ideal)
    assert found.share_foretold == pytest.approx(max(0, 1 - factor), abs=1e-6)
    assert found.share_seen == pytest.approx(found.share_foretold, abs=1e-6)
    assert found.rate_foretold == pytest.approx(found.rate_seen)


def test_ideal_ranks_are_foretold() -> None:
    found = compare_ranks(SETTING, ideal)
    assert found.share_foretold == pytest.approx(1 / 6)  # one rank of two waits a third of its time
    assert found.share_seen == pytest.approx(found.share_foretold)
    assert found.rate_foretold == pytest.approx(found.rate_seen)


@pytest.mark.parametrize(
    ("foretold", "seen", "share", "agrees"),
    [
        (0.50, (0.54, 0.53, 0.55), True, True),
        (0.50, (0.60, 0.58, 0.62), True, False),
        (0.50, (0.60, 0.49, 0.62), True, True),
        (0.005, (0.02, 0.018, 0.021), True, True),
        (10.0, (12.0, 11.5, 12.5), False, False),
        (10.0, (10.8, 10.7, 10.9), False, True),
    ],
)
def test_agreement(foretold: float, seen: tuple[float, float, float], share: bool, agrees: bool) -> None:
    assert Compared("case", Spread(foretold, foretold, foretold), Spread(*seen), share).agrees is agrees


def test_the_report_counts_what_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation.corpus, "build", lambda folder, images: folder)
    found = validation.report(Path(), True, MADE, ideal)
    assert found.remarks == ("8 of 8 cases agree.",)
    assert found.quick

    def twice_as_slow(setting: RankSetting) -> list[Seen]:
        return [each._replace(elapsed=2 * each.elapsed) if setting.step else each for each in ideal(setting)]

    other = validation.report(Path(), True, MADE, twice_as_slow)
    assert other.remarks != found.remarks
    assert replace(other, remarks=(), sections=()) == replace(
        found, remarks=(), sections=(), environment=other.environment
    )
