"""The statistics against numbers worked out by hand, with a clock that tells what it is told."""

import time
from collections.abc import Callable, Iterator
from threading import Thread

import pytest

from bench.measure import Contestant, Measurement, Sample, Series, Spread, measure, turns


class Clock:
    """Time passes only when someone works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def work(self, units: int, seconds: Iterator[float]) -> Callable[[], int]:
        def run() -> int:
            self.now += next(seconds)
            return units

        return run


def idle() -> bool:
    return False


def test_work_after_the_turn_is_paid_for() -> None:
    clock, left = Clock(), iter([True, True, False])

    def busy() -> bool:
        clock.now += 0.5  # the look itself takes time, which counts only while there is work
        return next(left)

    found = measure(
        [Contestant("a", clock.work(8, iter([3.0])))], unit="x/s", rounds=1, warmup=0, clock=clock, busy=busy
    )
    assert found["a"].samples == (Sample(0, 0, 8, 4.0),)


def test_endless_work_in_the_background_is_an_error() -> None:
    clock = Clock()

    def busy() -> bool:
        clock.now += 1
        return True

    with pytest.raises(RuntimeError, match="still computes"):
        measure([Contestant("a", lambda: 1)], unit="x/s", rounds=1, clock=clock, busy=busy)


def test_real_threads_are_waited_for() -> None:
    threads = list[Thread]()

    def burn() -> None:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass

    def run() -> int:
        threads.append(Thread(target=burn))
        threads[-1].start()
        return 1

    found = measure([Contestant("a", run)], unit="x/s", rounds=1, warmup=0)
    assert not threads[0].is_alive()
    assert found["a"].samples[0].seconds > 0.2


def test_order_rotates_so_that_each_place_is_everyones() -> None:
    assert [turns(3, round_) for round_ in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_contestants_run_in_rotated_order_and_setup_is_not_timed() -> None:
    clock, calls = Clock(), list[str]()

    def contestant(name: str) -> Contestant:
        def run() -> int:
            calls.append(name)
            clock.now += 2
            return 10

        def setup() -> None:
            calls.append(f"set up {name}")
            clock.now += 1000

        return Contestant(name, run, setup)

    found = measure([contestant("a"), contestant("b")], unit="x/s", rounds=2, warmup=1, clock=clock, busy=idle)
    order = ["a", "b", "b", "a", "a", "b"]  # the first two are the warm-up
    assert calls == [call for name in order for call in (f"set up {name}", name)]
    assert found["a"].samples == (Sample(0, 1, 10, 2.0), Sample(1, 0, 10, 2.0))
    assert found["b"].samples == (Sample(0, 0, 10, 2.0), Sample(1, 1, 10, 2.0))


def test_medians_quartiles_and_ratios() -> None:
    clock = Clock()
    fast = clock.work(120, iter([9.0, 1.0, 2.0, 3.0, 4.0, 6.0]))  # rates 120 60 40 30 20; the first is the warm-up
    slow = clock.work(60, iter([9.0, 6.0, 2.0, 3.0, 4.0, 5.0]))  # rates 10 30 20 15 12
    found = measure([Contestant("fast", fast), Contestant("slow", slow)], unit="x/s", rounds=5, clock=clock, busy=idle)
    assert found["fast"].rates == [120, 60, 40, 30, 20]
    assert found["fast"].rate == Spread(median=40, low=30, high=60)
    assert found["slow"].rate == Spread(median=15, low=12, high=20)
    ratio = found["fast"].ratio(found["slow"])  # within the rounds 12, 2, 2, 2, 5/3
    assert ratio.median == pytest.approx(40 / 15)
    assert (ratio.low, ratio.high) == (pytest.approx(2), pytest.approx(2))
    assert (found.rounds, found.warmup, found.unit) == (5, 1, "x/s")


def test_quartiles_between_samples_are_interpolated() -> None:
    assert Spread.of([1.0, 2.0, 3.0, 4.0]) == Spread(median=2.5, low=1.75, high=3.25)


def test_ratio_to_itself_is_one() -> None:
    series = Series("a", (Sample(0, 0, 3, 1.0), Sample(1, 0, 3, 2.0)))
    assert series.ratio(series) == Spread(1, 1, 1)


@pytest.mark.parametrize(("names", "rounds"), [(["a", "a"], 1), (["a", "b"], 0)])
def test_nonsense_is_refused(names: list[str], rounds: int) -> None:
    with pytest.raises(ValueError, match="got"):
        measure([Contestant(name, lambda: 1) for name in names], unit="x/s", rounds=rounds)


def test_an_error_in_a_contestant_is_not_hidden() -> None:
    def run() -> int:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure([Contestant("a", run)], unit="x/s", rounds=1)


def test_unknown_series() -> None:
    with pytest.raises(StopIteration):
        Measurement("x/s", 1, 0, ())["a"]
