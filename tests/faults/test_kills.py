"""kill -9 in a step, an evaluation and each part of a save: what goes on is as if it had never happened."""

import pytest

from tests.support.disturbed_runs import Kill, assert_killed_and_resumed
from tests.support.forked_runs import PLACES, Moment

KILLS = [Kill(Moment(place, 1 + (place == "step"))) for place in PLACES] + [Kill(Moment("half saved", 2), world=2)]


@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_a_killed_run_goes_on_to_the_same_bits(forked, few_data, undisturbed, tmp_path, kill):
    assert_killed_and_resumed(forked, few_data, tmp_path / "run", undisturbed[kill.world], kill)
