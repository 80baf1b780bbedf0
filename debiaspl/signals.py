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
PATIENCE, PATIENCE_ALONE = 60.0, 2.0
"""Seconds that a source gets to hand over a batch once a stop was asked for, with other ranks and without. A rank with
others waits for longer: they would wait for it. Between two steps the state is whole, so giving up loses nothing."""


class StopRequest:
    """Remembers the first signal that asked this process to stop; the third, or a late second, ends it at once."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._ends_at_once = False
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
        return self.signal is not None and time.monotonic() - self._first > self._patience

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Handles SIGNALS within the block; the handlers before come back after it."""
        previous = {number: signal.signal(number, self._received) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self, *, when: bool) -> Iterator[None]:
        """Lets Ctrl-C raise KeyboardInterrupt within the block, which may take minutes and saves nothing: compilation.

        Without ``when`` nothing changes.
        """
        self._ends_at_once = when
        try:
            yield
        finally:
            self._ends_at_once = False

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._ends_at_once and number == signal.SIGINT:
            _tell("\nSIGINT: stopping while the step is compiled; the last checkpoint stays.\n")
            raise KeyboardInterrupt
        self._count += 1
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._first = number, now
            again = f" To stop without saving: Ctrl-C after {DOUBLED:.0f} seconds, or twice now."
            what = "saving after this step (or batch of an evaluation), then stopping."
            _tell(f"\n{signal.Signals(number).name}: {what}{again if number == signal.SIGINT else ''}\n")
        elif self._count > 2 or now - self._first > DOUBLED:
            _tell(f"\n{signal.Signals(number).name}: stopping at once; the last checkpoint stays.\n")
            os._exit(128 + number)


def _tell(line: str) -> None:
    """Writes to the terminal without the streams of Python, which the interrupted code may hold."""
    try:
        os.write(2, line.encode())
    except OSError:  # nobody reads it
        return
