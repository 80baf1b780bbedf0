"""Long counts of comparisons between real processes: equal code, and code that is a tenth slower."""

import pytest

from bench.compare.reports import compare_reports
from bench.compare.run import too_slow
from bench.measure import turns
from tests.support.bench_reports import report_of
from tests.support.timed_process import rates_of_a_process

pytestmark = [pytest.mark.soak, pytest.mark.alone, pytest.mark.timeout(3600)]
PAIRS, PROCESSES = 20, 30
"""Processes last a second here, so a burst of other work spoils whole ones: many are needed."""


def measured_in_turns() -> tuple[list[list[float]], list[list[float]]]:
    """Measures one code twice, each process a new one; returns the rates of the rounds of each."""
    rates: tuple[list[list[float]], list[list[float]]] = ([], [])
    for number in range(PROCESSES):
        for which in turns(2, number):
            rates[which].append(rates_of_a_process())
    return rates


def test_twenty_pairs_of_equal_and_of_slower_code(record_property):
    """States how many are told right. Most are, unless something else computes meanwhile; more than that is luck.

    The slower code is the second one, nine of ten of whose images count.
    """
    alike, told, alarms = 0, 0, 0
    for _ in range(PAIRS):
        first, second = measured_in_turns()
        old, same = report_of({"decode": first}), report_of({"decode": second})
        slow = report_of({"decode": [[0.9 * rate for rate in rounds] for rounds in second]})
        equal, slower = compare_reports(old, same, in_turns=True), compare_reports(old, slow, in_turns=True)
        alike += equal.rows[0].found.verdict == "no difference shown"
        alarms += equal.rows[0].found.verdict in ("faster", "slower")
        told += slower.rows[0].found.verdict == "slower" and bool(too_slow(slower, 0.95))
    assert alarms <= PAIRS // 5
    assert told > PAIRS // 2
    record_property("equal code compared: no difference shown", f"{alike} of {PAIRS}")
    record_property("a tenth slower: slower", f"{told} of {PAIRS}")
