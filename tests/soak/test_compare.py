"""Long counts of comparisons between real processes: equal code, and code that is a tenth slower."""

import pytest

from bench.compare.reports import compare_reports
from bench.compare.run import too_slow
from bench.measure import turns
from bench.report import Report
from tests.support.bench_reports import report_of
from tests.support.timed_process import TIMES, rates_of_a_process

pytestmark = [pytest.mark.soak, pytest.mark.alone, pytest.mark.timeout(3600)]
PAIRS, PROCESSES = 20, 10
COUNTED = (TIMES, TIMES, TIMES * 9 // 10)
"""Images of a round that count, for the old code, the same once more, and a tenth slower."""


def three_reports() -> list[Report]:
    """Measures the three codes in turns, each process a new one."""
    rates: list[list[list[float]]] = [[], [], []]
    for number in range(PROCESSES):
        for which in turns(3, number):
            rates[which].append(rates_of_a_process(COUNTED[which]))
    return [report_of({"decode": each}) for each in rates]


def test_twenty_pairs_of_equal_and_of_slower_code(record_property):
    """States how many are told right. Most are, unless something else computes meanwhile; more than that is luck."""
    alike, told, alarms = 0, 0, 0
    for _ in range(PAIRS):
        old, same, slow = three_reports()
        equal, slower = compare_reports(old, same, in_turns=True), compare_reports(old, slow, in_turns=True)
        alike += equal.rows[0].found.verdict == "no difference shown"
        alarms += equal.rows[0].found.verdict in ("faster", "slower")
        told += slower.rows[0].found.verdict == "slower" and bool(too_slow(slower, 0.95))
    assert alarms <= PAIRS // 5
    assert told > PAIRS // 2
    record_property("equal code compared: no difference shown", f"{alike} of {PAIRS}")
    record_property("a tenth slower: slower", f"{told} of {PAIRS}")
