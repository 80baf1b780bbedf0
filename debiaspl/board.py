"""TensorBoard's event file of a run: made anew from the records at each start, so that both always say the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from debiaspl.records import Record

_EVENTS = "events.out.tfevents.*"


class Board:
    """One event file in ``folder``, which takes the place of those of earlier starts.

    A file that is only added to shows what a kill left behind, and hides all that follows a clock that was set back.
    """

    def __init__(self, folder: Path, records: Sequence[Record], step: int) -> None:
        """Scalars come from ``records``; pictures and texts up to ``step`` from the event files that there are."""
        others = [event for path in sorted(folder.glob(_EVENTS)) for event in _pictures_and_texts(path, step)]
        for path in folder.glob(_EVENTS):
            path.unlink()
        self._writer = SummaryWriter(str(folder))
        for record in records:
            self.add(record)
        for event in others:
            self._writer._get_file_writer().add_event(event, event.step, event.wall_time)
        self._writer.flush()

    def add(self, record: Record) -> None:
        """Adds a record's values as scalars."""
        for name, value in record.values.items():
            self._writer.add_scalar(name, value, record.step, walltime=record.time or None)

    def picture(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Adds a picture, uint8 [h, w, 3]."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def text(self, name: str, lines: Sequence[str], step: int) -> None:
        """Adds lines as they are: indented, they are no Markdown."""
        self._writer.add_text(name, "\n".join(f"    {line}" for line in lines), step)

    def close(self) -> None:
        """Writes what waits."""
        self._writer.close()


def _pictures_and_texts(path: Path, step: int) -> list[Any]:
    """The events of a file that are no scalars, up to ``step``; as many as can be read."""
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
