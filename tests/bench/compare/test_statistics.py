"""The comparison of two samples: scipy's test, its interval, and how often it raises a false alarm."""

import itertools

import numpy as np
import pytest
from scipy import stats

from bench.compare.statistics import FEWEST, FEWEST_TURNS, compare, compare_turns


def rates(seed: int, processes: int = 6, spread: float = 0.015, factor: float = 1.0) -> list[float]:
    return list(1000 * factor * np.random.default_rng(seed).lognormal(0, spread, processes))


def test_clear_differences_are_named() -> None:
    slow, fast = [100.0, 101, 99, 102, 98], [120.0, 121, 119, 122, 118]
    faster, slower = compare(slow, fast), compare(fast, slow)
    assert (faster.verdict, slower.verdict) == ("faster", "slower")
    assert faster.ratio == pytest.approx(1.2, abs=0.005)
    assert faster.low < 1.2 < faster.high
    assert faster.p == pytest.approx(2 / 252)  # 5 and 5, all on one side
    assert slower.ratio == pytest.approx(1 / faster.ratio)


def test_a_small_difference_is_not_called_one_however_sure_it_is() -> None:
    old = [100.0, 100.1, 100.2, 100.3, 100.4]
    found = compare(old, [1.01 * rate for rate in old])
    assert found.p < 0.01
    assert found.verdict == "no difference shown"


def test_few_processes_give_a_ratio_and_no_verdict() -> None:
    found = compare([100.0], [50.0])
    assert (found.ratio, found.low, found.high, found.verdict) == (0.5, 0.5, 0.5, "too few processes")
    assert compare([100.0] * (FEWEST - 1), [50.0] * 9).verdict == "too few processes"


def test_a_wide_spread_is_too_noisy_to_tell() -> None:
    assert compare([70.0, 85, 100, 115, 130], [72.0, 84, 103, 113, 128]).verdict == "too noisy"


@pytest.mark.parametrize(("olds", "news"), [(5, 5), (6, 6), (5, 8)])
def test_the_interval_ends_where_the_test_begins_to_reject(olds: int, news: int) -> None:
    old, new = np.array(rates(1, olds)), np.array(rates(2, news))
    found = compare(list(old), list(new))
    for end, inwards in ((found.low, 1 + 1e-9), (found.high, 1 - 1e-9)):
        assert stats.mannwhitneyu(new / (end * inwards), old, method="exact").pvalue > 0.05
        assert stats.mannwhitneyu(new / (end / inwards), old, method="exact").pvalue <= 0.05
    assert found.ratio == pytest.approx(np.median([b / a for a, b in itertools.product(old, new)]))


@pytest.mark.parametrize("turns", [6, 8, 10, 13])
def test_the_interval_of_turns_ends_where_their_test_begins_to_reject(turns: int) -> None:
    old, new = np.array(rates(1, turns)), np.array(rates(2, turns))
    found = compare_turns(list(old), list(new))
    for end, inwards in ((found.low, 1 + 1e-9), (found.high, 1 - 1e-9)):
        assert stats.wilcoxon(np.log(new / old / (end * inwards)), method="exact").pvalue > 0.05
        assert stats.wilcoxon(np.log(new / old / (end / inwards)), method="exact").pvalue <= 0.05


def test_turns_cancel_a_drift_that_hides_a_difference() -> None:
    drift = np.linspace(1, 1.2, 10)
    old, new = drift * rates(1, 10, spread=0.005), 0.95 * drift * rates(2, 10, spread=0.005)
    assert compare(list(old), list(new)).verdict == "no difference shown"
    found = compare_turns(list(old), list(new))
    assert found.verdict == "slower"
    assert found.ratio == pytest.approx(0.95, abs=0.005)
    assert found.p == pytest.approx(2 / 2**10)  # all on one side


def test_equal_turns_and_few_of_them() -> None:
    same = compare_turns([100.0] * 8, [100.0] * 8)
    assert (same.ratio, same.low, same.high, same.p, same.verdict) == (1, 1, 1, 1, "no difference shown")
    assert compare_turns([100.0] * (FEWEST_TURNS - 1), [50.0] * (FEWEST_TURNS - 1)).verdict == "too few processes"
    assert compare_turns([100.0], [50.0]).ratio == pytest.approx(0.5)


def test_turns_raise_few_false_alarms_and_tell_a_tenth() -> None:
    equal = [compare_turns(rates(2 * n, 10, 0.03), rates(2 * n + 1, 10, 0.03)).verdict for n in range(200)]
    assert sum(verdict in ("faster", "slower") for verdict in equal) <= 4
    slower = [compare_turns(rates(2 * n, 10, 0.03), rates(2 * n + 1, 10, 0.03, 0.9)).verdict for n in range(200)]
    assert slower.count("slower") == 200


def test_the_interval_holds_the_true_ratio() -> None:
    held = 0
    for seed in range(200):
        found = compare(rates(2 * seed), rates(2 * seed + 1, factor=0.95))
        held += found.low <= 0.95 <= found.high
    assert held >= 186  # 190 expected; under 0.95 fewer happen once in ten


def test_equal_code_raises_at_most_one_false_alarm_in_fifty() -> None:
    verdicts = [compare(rates(2 * seed), rates(2 * seed + 1)).verdict for seed in range(200)]
    alarms = sum(verdict in ("faster", "slower") for verdict in verdicts)
    assert alarms <= 4  # 1 %, hence 2 of 200, is expected at the most
    assert verdicts.count("no difference shown") >= 190


def test_a_tenth_slower_is_recognised() -> None:
    found = [compare(rates(2 * seed), rates(2 * seed + 1, factor=0.9)).verdict for seed in range(200)]
    assert found.count("slower") == 200
