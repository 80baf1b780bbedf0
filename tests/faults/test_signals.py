"""Signals save and stop a run wherever they meet it, on one rank and on two; what goes on is as if none had come."""

import pytest

from tests.support.disturbed_runs import assert_saved_and_resumed, few_stops


@pytest.mark.parametrize("stop", few_stops(), ids=str)
def test_a_signal_saves_and_stops(forked, few_data, undisturbed, tmp_path, stop):
    assert_saved_and_resumed(forked, few_data, tmp_path / "run", undisturbed[stop.world], stop)
