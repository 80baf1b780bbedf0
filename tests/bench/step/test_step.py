"""The step bench: a whole run at a tiny size, and the parts that decide what its numbers mean."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.__main__ import main
from bench.measure import Measurement, Sample, Series, Spread
from bench.step import account, end_to_end, measuring
from bench.step import contestants as parts
from bench.step.picture import waterfall
from debiaspl.step import METRICS


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our steps uncompiled: compiling takes minutes, and the tests' shape checks cannot be compiled."""
    compiled = parts.ours
    monkeypatch.setattr(parts, "ours", lambda shared, dtype, compile: compiled(shared, dtype, compile=False))


@pytest.fixture(scope="module")
def shared() -> parts.Workload:
    return parts.workload("resnet18", 32, samples=50)


@pytest.mark.soak
@pytest.mark.usefixtures("eager")
def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_to_end, "pipeline", lambda: "torchvision")  # nothing to convert or to compile
    words = ["--size", "32", "--rounds", "1", "--steps", "1", "--images", "96", "--threads", "1"]
    threads = torch.get_num_threads()
    assert main(["step", *words, "--out", str(tmp_path / "out"), "--corpus", str(tmp_path)]) == 0
    assert torch.get_num_threads() == threads
    text = next((tmp_path / "out").glob("step_*.md")).read_text()
    found: dict[str, Any] = json.loads(next((tmp_path / "out").glob("step_*.json")).read_text())
    bf16 = [] if parts.bf16_missing() else [parts.BFLOAT16]
    names = [parts.BARE, parts.WITHOUT_EMA, *parts.LADDER[: len(parts.LADDER) - 1], *bf16]
    assert [series["name"] for series in found["measurement"]["series"]] == names
    assert list(found["facts"]["against the row with one part less"]) == names[3:]
    bars, together = found["sections"]
    counted = bars["raw"]["counted"]
    assert list(counted.values()) == [0, 0, 0, 0, 2]
    assert counted["dispatcher calls of the teacher's update"] == 2
    assert [row[0] for row in together["rows"][1:]] == [end_to_end.LOADER, end_to_end.ALONE, end_to_end.TOGETHER]
    assert len(together["raw"]["waiting shares"]) == len(end_to_end.FACTORS)
    assert "Waterfall" in text
    assert "end to end, share of" in capsys.readouterr().out


def test_quick_compiles_nothing_and_says_so(shared: parts.Workload) -> None:
    found = measuring.contestants(shared, compile=False)
    assert list(found.ours) == [parts.LAYOUT]
    assert set(found.not_measured) == {parts.COMPILED, parts.BFLOAT16}
    assert all("--quick" in reason for reason in found.not_measured.values())
    assert list(found.runs) == [parts.BARE, parts.WITHOUT_EMA, *parts.LADDER[:4]]


@pytest.mark.soak
def test_every_contestant_finds_the_same_losses(shared: parts.Workload) -> None:
    runs = parts.others(shared)
    runs[parts.LAYOUT] = parts.resident(shared, parts.ours(shared, torch.float32, compile=False))
    parts.check(runs)
    assert runs[parts.LAYOUT](1).shape == (len(METRICS),)
    runs["wrong"] = lambda number: torch.zeros(len(METRICS))
    with pytest.raises(RuntimeError, match="wrong computes something else"):
        parts.check({parts.YARDSTICK: runs[parts.YARDSTICK], "wrong": runs["wrong"]})


@pytest.mark.soak
def test_our_teacher_moves_where_the_loop_is_left_out(shared: parts.Workload) -> None:
    """Both rows do the whole step: after it, the networks of the row with the loop and of that with calls are equal."""
    made = []
    original = parts._state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_state", lambda shared: made.append(original(shared)) or made[-1])
        runs = parts.others(shared)
    foreach, _, _, loop = made  # the order in which they are built
    runs[parts.FOREACH](0)
    runs[parts.NO_READS](0)
    assert not torch.equal(loop.teacher.head.weight, loop.student.head.weight)
    torch.testing.assert_close(foreach.teacher.state_dict(), loop.teacher.state_dict())


def series(name: str, *rates: float) -> Series:
    return Series(name, tuple(Sample(number, 0, 1, 1 / rate) for number, rate in enumerate(rates)))


def test_gains_are_against_the_row_with_one_part_less() -> None:
    measured = Measurement(
        "steps/s",
        2,
        1,
        (series(parts.YARDSTICK, 1, 1), series(parts.NO_READS, 1.5, 1.5), series(parts.FOREACH, 3, 3)),
    )
    assert account.gains(measured) == {parts.NO_READS: "1.50× (1.50–1.50)", parts.FOREACH: "2.00× (2.00–2.00)"}


def test_the_picture_is_one(tmp_path: Path) -> None:
    picture = waterfall(
        [("yardstick", 1000.0), ("faster", 700.0), ("slower", 750.0)], ("bare", 950.0), "A step", "here"
    )
    assert picture.png.startswith(b"\x89PNG")
    assert "yardstick" in picture.what


class Clock:
    """Time that passes only where something sleeps or the feed works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Paced:
    """A feed that has each batch ready ``seconds`` after it was asked for the one before, and ``late`` on the first."""

    def __init__(self, clock: Clock, batches: int, seconds: float, late: float) -> None:
        self._clock, self._batches, self._seconds, self._late = clock, batches, seconds, late

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[int]:
        ready = self._clock.now + self._late
        for number in range(self._batches):
            self._clock.now = max(self._clock.now, ready)
            ready = self._clock.now + self._seconds
            yield number


@pytest.mark.parametrize(("device", "share"), [(2.0, 0.0), (1.0, 0.0), (0.75, 0.25), (0.0, 1.0)])
def test_waiting_is_what_the_device_lacks(device: float, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(end_to_end.time, "perf_counter", clock)
    found = end_to_end.consume(Paced(clock, batches=11, seconds=1.0, late=50.0), device, sleep=clock.sleep)
    assert found.share == pytest.approx(share)
    assert found.seconds == pytest.approx(6 * max(device, 1.0))
    assert found.batches == 6  # of 11: without the two at each end, counted between


def test_the_share_is_one_where_the_times_add_up() -> None:
    row = end_to_end.rows(Spread(0.95, 0.94, 0.96), {1.1: Spread(0.01, 0.0, 0.03)})
    assert row[0][1:] == ("95.0% (94.0%–96.0%)", "≥ 90%: met", "≥ 97%: missed")
    assert row[1][1:] == ("1.00% (0.00%–3.00%)", "< 2.0%: met", "< 0.5%: missed")


def test_end_to_end_against_the_sum_of_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {end_to_end.LOADER: (4.0, 4.0), end_to_end.ALONE: (1.0, 1.0), end_to_end.TOGETHER: (0.8, 0.6)}
    monkeypatch.setattr(
        end_to_end,
        "measure",
        lambda contestants, **_: Measurement(
            "steps/s", 2, 1, tuple(series(c.name, *rates[c.name]) for c in contestants)
        ),
    )
    _, share = end_to_end.together([None] * 3, None, lambda number: torch.zeros(()), rounds=2)
    np.testing.assert_allclose((share.low, share.median, share.high), np.percentile([1.0, 0.75], [25, 50, 75]))


def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["step", "--images", "50"])
    assert raised.value.code == 2
    assert "multiple of 48" in capsys.readouterr().err
