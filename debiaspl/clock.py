"""How long an epoch's steps take and how much of that is waiting, on the clock of what computes them.

A GPU is asked by events on its stream, between a step's end and the next one's beginning: the host runs ahead of it, so
what the host waits says nothing. On a CPU, which computes before it goes on, the host's time does.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch


class Lap(NamedTuple):
    """Seconds since the clock's start, and how many of them were spent waiting for batches."""

    elapsed: float
    waited: float


@runtime_checkable
class Clock(Protocol):
    """Is told of each step's turns; starts when it is made."""

    def asks(self) -> None:
        """Notes that a batch is asked for."""
        ...

    def begins(self) -> None:
        """Notes that the batch is there, and its step begins."""
        ...

    def ends(self) -> None:
        """Notes that the step has ended; on a GPU it is queued to its end."""
        ...

    def lap(self) -> Callable[[], Lap]:
        """Returns what reads the lap until the last end, once that is computed. Laps are read in their order."""
        ...


def clock(device: torch.device) -> Clock:
    """Returns the clock for steps on ``device``."""
    return EventClock(device) if device.type == "cuda" else HostClock()


def measured_with(device: torch.device) -> str:
    """Returns what ``clock`` measures with, in words."""
    return "CUDA events" if device.type == "cuda" else "the host's clock"


class HostClock:
    """Measures on the host."""

    def __init__(self) -> None:
        self._started = self._asked = self._ended = time.perf_counter()
        self._waited = 0.0

    def asks(self) -> None:
        self._asked = time.perf_counter()

    def begins(self) -> None:
        self._waited += time.perf_counter() - self._asked

    def ends(self) -> None:
        self._ended = time.perf_counter()

    def lap(self) -> Callable[[], Lap]:
        lap = Lap(self._ended - self._started, self._waited)
        return lambda: lap


class EventClock:
    """Measures on a GPU, whose current stream the steps are queued on. Never run on a GPU so far."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = self._ended = self._event()
        self._pauses: list[tuple[Any, Any]] = []  # not read yet: an end, the next beginning
        self._waited = 0.0

    def asks(self) -> None:
        pass  # how long the host waits is no matter

    def begins(self) -> None:
        self._pauses.append((self._ended, self._event()))

    def ends(self) -> None:
        self._ended = self._event()

    def lap(self) -> Callable[[], Lap]:
        ended, pauses, self._pauses = self._ended, self._pauses, []

        def read() -> Lap:
            ended.synchronize()
            self._waited += sum(end.elapsed_time(begin) for end, begin in pauses) / 1000  # from milliseconds
            return Lap(self._started.elapsed_time(ended) / 1000, self._waited)

        return read

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
