"""Saves checkpoints beside the training: in the background, again where the disk refused, and never at a run's cost."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from debiaspl.checkpoint_file import CheckpointError, Checkpoints, packed

RETRY_SECONDS = 60.0
"""Between two tries to write a checkpoint that the disk refused."""
_LAST_TRIES = (1.0, 3.0, 10.0)
"""Seconds before each further try to write a run's final state."""


class _Refusal(NamedTuple):
    """Says which checkpoint the disk refused, and why."""

    path: Path
    error: OSError


class _Waiting(NamedTuple):
    """One content that is yet to be written, and the step that it follows."""

    content: dict[str, Any]
    step: int


class Saver:
    """Writes one run's checkpoints; ``say`` is told, in one line, of each that could not be written.

    A content that is handed over must not change any more: tensors are copies on the host.
    """

    def __init__(self, checkpoints: Checkpoints, say: Callable[[str], None]) -> None:
        self._checkpoints, self._say = checkpoints, say
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._writing: Future[_Refusal | None] | None = None
        self._last: _Waiting | None = None  # the newest content, until it is written
        self._best: _Waiting | None = None  # the best one, until it is written
        self._retry_at = 0.0
        self._needed = 0  # bytes of the newest content

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written in the background."""
        return self._writing is not None and not self._writing.done()

    def save(self, content: dict[str, Any], step: int, *, is_best: bool = False) -> None:
        """Starts to write ``content`` in the background, after whatever is being written.

        ``is_best``: it becomes best.pt as well.
        """
        self._take(content, step, is_best)
        self._writing = self._pool.submit(self._write)

    def tick(self) -> None:
        """Reports what the background has met, and tries again where the time has come; called after each step."""
        self._settle(wait=False)
        if (self._last or self._best) and not self.busy and time.monotonic() >= self._retry_at:
            self._writing = self._pool.submit(self._write)

    def save_last(self, content: dict[str, Any], step: int, *, is_best: bool = False) -> None:
        """Writes the final ``content`` now. Raises CheckpointError where the disk refuses it several times."""
        self._take(content, step, is_best)
        refusal = self._write()
        for pause in _LAST_TRIES:
            if refusal is None:
                return
            self._say(f"{self._sentence(refusal)} Trying again in {pause:.0f} s.")
            time.sleep(pause)
            refusal = self._write()
        if refusal is not None:
            older = self._checkpoints.paths()
            kept = f"The last one that was written is {older[0]}." if older else "There is no older one."
            raise CheckpointError(f"{self._sentence(refusal)} {kept} Make room, then go on with --resume auto.")

    def close(self) -> None:
        """Waits for what is being written."""
        self._settle(wait=True)
        self._pool.shutdown()

    def _take(self, content: dict[str, Any], step: int, is_best: bool) -> None:
        """Notes what is to be written next, in the place of what the disk has refused so far."""
        self._settle(wait=True)
        self._last = _Waiting(content, step)
        if is_best:
            self._best = self._last

    def _write(self) -> _Refusal | None:
        """Writes what waits; returns the disk's refusal rather than raising it, to be told by the main thread."""
        last, best, data = self._last, self._best, b""
        path = self._checkpoints.last
        try:
            if last is not None:
                data = self._packed(last)
                self._checkpoints.write(data, last.step)
                self._last = None
            path = self._checkpoints.best
            if best is not None:
                self._checkpoints.write_best(data if best is last else self._packed(best))
                self._best = None
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            return _Refusal(path, error)
        return None

    def _packed(self, waiting: _Waiting) -> bytes:
        data = packed(waiting.content)
        self._needed = len(data)
        return data

    def _settle(self, *, wait: bool) -> None:
        """Takes the result of the write in the background, where there is one (or, with ``wait``, once there is)."""
        if self._writing is None or not (wait or self._writing.done()):
            return
        writing, self._writing = self._writing, None
        if (refusal := writing.result()) is not None:
            self._say(f"{self._sentence(refusal)} Training goes on; the next try is in {RETRY_SECONDS:.0f} s.")

    def _sentence(self, refusal: _Refusal) -> str:
        """Says what could not be written and why, with the space that there is and that it takes."""
        path, error = refusal
        space = ""
        for folder in path.parents:
            if folder.is_dir():
                free = shutil.disk_usage(folder).free
                space = f" ({free / 2**20:,.1f} MiB are free, {self._needed / 2**20:,.1f} MiB are needed)"
                break
        return f"The checkpoint {path} cannot be written: {error.strerror or error}{space}."
