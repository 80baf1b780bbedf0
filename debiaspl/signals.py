"""Signals that ask a run to save and stop, as terminals, clusters and launchers send them."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU")
    if hasattr(signal, name)
)
"""Each saves and stops. Clusters send USR1, USR2 or XCPU before a time limit, a closed terminal sends HUP."""
DOUBLED = 5.0
"""Seconds within which a second signal is the first one's echo: launchers pass on what the terminal sent as well."""


PATIENCE = 60.0
"""Seconds that a source gets to hand over a batch once a stop was asked for."""


class StopRequest:
    """Remembers the first signal that asked this process to stop; the third, or a late second, ends it at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that came first; None while none has."""
        self._count = 0
        self._first = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    def request(self) -> None:
        """Asks for a stop as SIGTERM does."""
        if self.signal is None:
            self.signal, self._first = signal.SIGTERM, time.monotonic()

    def is_overdue(self) -> bool:
        """Whether a stop was asked for so long ago that what has not answered since is to be left."""
        return self.signal is not None and time.monotonic() - self._first > PATIENCE

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Handles SIGNALS within the block; the handlers before come back after it."""
        previous = {number: signal.signal(number, self._received) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._first = number, now
            again = " Once more in a few seconds to stop without saving." if number == signal.SIGINT else ""
            _tell(f"\n{signal.Signals(number).name}: saving after this step, then stopping.{again}\n")
        elif self._count > 2 or now - self._first > DOUBLED:
            _tell(f"\n{signal.Signals(number).name}: stopping at once; the last checkpoint stays.\n")
            os._exit(128 + number)


def _tell(line: str) -> None:
    """Writes to the terminal without the streams of Python, which the interrupted code may hold."""
    try:
        os.write(2, line.encode())
    except OSError:  # nobody reads it
        return
