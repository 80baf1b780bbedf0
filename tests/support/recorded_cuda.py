"""A recording in place of the few calls of torch.cuda that hand batches over: who calls what, in which order.

Tensors stay on the CPU, whatever device they are sent to.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor


class Call(NamedTuple):
    """One call: the thread's name, the call's, and what it was about."""

    thread: str
    name: str
    about: Any


class Event:
    """An event of ``stream``; its ``number`` counts all events that were recorded."""

    def __init__(self, stream: "Stream", number: int) -> None:
        self.stream, self.number = stream, number

    def synchronize(self) -> None:
        self.stream.cuda.note("synchronize", (self.stream.name, self.number))


class Stream:
    """A stream that notes what it is asked for."""

    def __init__(self, cuda: "RecordedCuda", name: str, priority: int) -> None:
        self.cuda, self.name, self.priority = cuda, name, priority

    def record_event(self) -> Event:
        event = Event(self, len(self.cuda.events))
        self.cuda.events.append(event)
        self.cuda.note("record_event", (self.name, event.number))
        return event

    def wait_event(self, event: Event) -> None:
        self.cuda.note("wait_event", (self.name, event.number))

    def synchronize(self) -> None:
        self.cuda.note("synchronize", self.name)


class RecordedCuda:
    """Takes the place of torch.cuda's streams and of copies to a GPU while ``patch`` lasts."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[Call] = []
        self.events: list[Event] = []
        self.streams: list[Stream] = []
        self.pinned: set[int] = set()
        self._current = threading.local()
        patch.setattr(torch.cuda, "set_device", lambda device: self.note("set_device", str(device)))
        patch.setattr(torch.cuda, "Stream", self._new_stream)
        patch.setattr(torch.cuda, "stream", self._as_current)
        patch.setattr(torch.cuda, "current_stream", lambda device=None: self.current)
        patch.setattr(Tensor, "record_stream", lambda tensor, stream: self.note("record_stream", stream.name))
        patch.setattr(Tensor, "pin_memory", lambda tensor: self._pin(tensor))
        patch.setattr(Tensor, "to", lambda tensor, *where, **how: self._copy(tensor, *where, **how))
        empty = torch.empty

        def maybe_pinned(*shape: Any, pin_memory: bool = False, **more: Any) -> Tensor:
            made = empty(*shape, **more)
            return self._pin(made) if pin_memory else made

        patch.setattr(torch, "empty", maybe_pinned)

    @property
    def current(self) -> Stream:
        """The calling thread's current stream: at first the default one, on which training computes."""
        return getattr(self._current, "stream", Stream(self, "default", 0))

    def note(self, name: str, about: Any) -> None:
        """Records a call of the calling thread."""
        self.calls.append(Call(threading.current_thread().name, name, about))

    def named(self, *names: str) -> list[Call]:
        """The calls of these names, in order."""
        return [call for call in self.calls if call.name in names]

    def _new_stream(self, device: Any, priority: int = 0) -> Stream:
        stream = Stream(self, f"side {len(self.streams)}", priority)
        self.streams.append(stream)
        self.note("Stream", (str(device), priority))
        return stream

    @contextmanager
    def _as_current(self, stream: Stream) -> Iterator[None]:
        before, self._current.stream = self.current, stream
        yield
        self._current.stream = before

    def _pin(self, tensor: Tensor) -> Tensor:
        self.pinned.add(tensor.data_ptr())
        return tensor

    def _copy(self, tensor: Tensor, device: Any, non_blocking: bool = False) -> Tensor:
        self.note("copy", (self.current.name, str(device), tensor.data_ptr() in self.pinned, non_blocking))
        return tensor
