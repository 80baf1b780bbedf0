"""Elapsed time and waiting: the host's clock and a GPU's events tell the same story of the same steps."""

from types import SimpleNamespace

import pytest
import torch

from debiaspl import clock
from debiaspl.clock import EventClock, HostClock, Lap


class Timeline:
    """A time that only the test moves on, in milliseconds."""

    def __init__(self) -> None:
        self.now = 1000.0


def event_of(timeline: Timeline) -> type:
    class Event:
        """As CUDA's: its time is known once the host has waited for it."""

        def __init__(self, enable_timing: bool = False) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            assert stream == "current of cuda:1"
            self.at, self.is_done = timeline.now, False

        def synchronize(self) -> None:
            self.is_done = True

        def elapsed_time(self, other: "Event") -> float:
            return other.at - self.at

    return Event


@pytest.fixture(params=["host", "events"])
def timed(request, monkeypatch):
    """A clock of each kind, and its timeline."""
    timeline = Timeline()
    if request.param == "host":
        monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: timeline.now / 1000))
        return HostClock(), timeline
    monkeypatch.setattr(torch.cuda, "Event", event_of(timeline))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"current of {device}")
    return EventClock(torch.device("cuda", 1)), timeline


def step(timed, waits: float, computes: float) -> None:
    found, timeline = timed
    found.asks()
    timeline.now += waits
    found.begins()
    timeline.now += computes
    found.ends()


def test_waiting_is_what_lies_between_steps(timed):
    step(timed, waits=30, computes=70)
    first = timed[0].lap()
    step(timed, waits=0, computes=100)  # before the first lap is read, as the trainer does it
    assert first() == pytest.approx(Lap(0.1, 0.03))
    step(timed, waits=50, computes=50)
    assert timed[0].lap()() == pytest.approx(Lap(0.3, 0.08))
    step(timed, waits=100, computes=0)
    assert timed[0].lap()() == pytest.approx(Lap(0.4, 0.18))


def test_the_device_chooses_the_clock(monkeypatch):
    assert isinstance(clock.clock(torch.device("cpu")), HostClock)
    monkeypatch.setattr(torch.cuda, "Event", event_of(Timeline()))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"current of {device}")
    assert isinstance(clock.clock(torch.device("cuda", 1)), EventClock)
