"""When a run's picture and report are made."""

import pytest

from debiaspl.epoch_end import is_shown


@pytest.mark.parametrize(
    ("epochs", "reports", "expected"),
    [(60, 10, range(6, 61, 6)), (25, 10, (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)), (3, 10, (1, 2, 3)), (50, 1, (50,))],
)
def test_reports_are_spread_evenly_and_end_with_the_run(epochs, reports, expected):
    assert [epoch for epoch in range(1, epochs + 1) if is_shown(epoch, epochs, reports)] == list(expected)


def test_no_report_is_made_where_none_is_wanted():
    assert not any(is_shown(epoch, 30, 0) for epoch in range(1, 31))
