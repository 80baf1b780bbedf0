"""TensorBoard's event file of a run: made anew from the records at each start, so that both always say the same.

Each event is written where it is added: a thread of its own, as TensorBoard's writer has one, can only die of a full
disk with a traceback.
"""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from debiaspl.records import Record

_EVENTS = "events.out.tfevents.*"


class Board:
    """One event file in ``folder``, which takes the place of those of earlier starts.

    A file that is only added to shows what a kill left behind, and hides all that follows a clock that was set back.
    """

    def __init__(self, folder: Path, records: Sequence[Record], step: int) -> None:
        """Scalars come from ``records``; pictures and texts up to ``step`` from the event files that there are."""
        others = [event for path in sorted(folder.glob(_EVENTS)) for event in _pictures_and_texts(path, step)]
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(_EVENTS):
            path.unlink()
        now = time.time()
        name = _EVENTS.replace("*", f"{now:010.0f}.{socket.gethostname()}.{os.getpid()}")
        self._writer = RecordWriter((folder / name).open("wb"))
        self._write(Event(wall_time=now, file_version="brain.Event:2"), *map(_scalars, records), *others)

    def add(self, record: Record) -> None:
        """Adds a record's values as scalars."""
        self._write(_scalars(record))

    def picture(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Adds a picture, uint8 [h, w, 3]."""
        picture = summary.image(name, pixels, dataformats="HWC")
        self._write(Event(wall_time=time.time(), step=step, summary=picture))

    def text(self, name: str, lines: Sequence[str], step: int) -> None:
        """Adds lines as they are: indented, they are no Markdown."""
        text = summary.text(name, "\n".join(f"    {line}" for line in lines))
        self._write(Event(wall_time=time.time(), step=step, summary=text))

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, *events: Event) -> None:
        """Raises OSError where the disk refuses them."""
        for event in events:
            self._writer.write(event.SerializeToString())
        self._writer.flush()


def _scalars(record: Record) -> Event:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in record.values.items()]
    return Event(wall_time=record.time or time.time(), step=record.step, summary=Summary(value=values))


def _pictures_and_texts(path: Path, step: int) -> list[Any]:
    """Returns the events of a file that are no scalars, up to ``step``; as many as can be read."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found: list[Any] = []
    try:
        for event in LegacyEventFileLoader(str(path)).Load():
            kinds = {value.WhichOneof("value") for value in event.summary.value}
            if kinds - {"simple_value"} and event.step <= step:
                found.append(event)
    except Exception:  # whatever TensorBoard's reader raises on damage; what came before it is kept
        return found
    return found
