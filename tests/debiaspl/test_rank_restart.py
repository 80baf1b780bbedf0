"""A rank that dies costs time alone: torchrun ends the other, which waits in a collective, and starts both again."""

from tests.support.killed_rank import launch, launched
from tests.support.runs import assert_same_bits, without_speed


def test_a_killed_rank_is_started_again_and_ends_in_the_same_bits(forked, few_data, tmp_path):
    ended = forked(launched(few_data, tmp_path / "whole"), world=2)
    assert ended.statuses == [0, 0], ended.said
    whole = without_speed(tmp_path / "whole/metrics.jsonl")
    per_epoch = whole[-1]["step"] // 2
    said = launch(few_data, tmp_path / "killed", kill_after=per_epoch + 1)
    assert "Signal 9" in said or "exitcode: -9" in said, said
    assert_same_bits(tmp_path / "killed/last.pt", tmp_path / "whole/last.pt")
    assert without_speed(tmp_path / "killed/metrics.jsonl") == whole
