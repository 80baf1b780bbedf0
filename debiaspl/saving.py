"""Saves checkpoints beside the training: in the background, again where the disk refused, and never at a run's cost."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from debiaspl.checkpoint_file import CheckpointError, Checkpoints, packed

RETRY_SECONDS = 60.0
"""Between two tries to write a checkpoint that the disk refused."""
_LAST_TRIES = (1.0, 3.0, 10.0)
"""Seconds before each further try to write a run's final state."""


class Saver:
    """Writes one run's checkpoints; ``say`` is told, in one line, of each that could not be written.

    A content that is handed over must not change any more: tensors are copies on the host.
    """

    def __init__(self, checkpoints: Checkpoints, say: Callable[[str], None]) -> None:
        self._checkpoints, self._say = checkpoints, say
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._writing: Future[OSError | None] | None = None
        self._refused: tuple[dict[str, Any], int] | None = None  # the newest content that could not be written
        self._retry_at = 0.0
        self._needed = 0  # bytes of the newest content

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written in the background."""
        return self._writing is not None and not self._writing.done()

    def save(self, content: dict[str, Any], step: int) -> None:
        """Starts to write ``content`` in the background, after whatever is being written."""
        self._settle(wait=True)
        self._writing = self._pool.submit(self._write, content, step)

    def tick(self) -> None:
        """Reports what the background has met, and tries again where the time has come; called after each step."""
        self._settle(wait=False)
        if self._refused is not None and not self.busy and time.monotonic() >= self._retry_at:
            self._writing = self._pool.submit(self._write, *self._refused)

    def save_last(self, content: dict[str, Any], step: int) -> None:
        """Writes the final ``content`` now. Raises CheckpointError where the disk refuses it several times."""
        self._settle(wait=True)
        error = self._write(content, step)
        for pause in _LAST_TRIES:
            if error is None:
                return
            self._say(f"{self._sentence(error)} Trying again in {pause:.0f} s.")
            time.sleep(pause)
            error = self._write(content, step)
        if error is not None:
            older = self._checkpoints.paths()
            kept = f"The last one that was written is {older[0]}." if older else "There is no older one."
            raise CheckpointError(f"{self._sentence(error)} {kept} Make room, then go on with --resume auto.")

    def close(self) -> None:
        """Waits for what is being written."""
        self._settle(wait=True)
        self._pool.shutdown()

    def _write(self, content: dict[str, Any], step: int) -> OSError | None:
        """Writes one checkpoint; returns the disk's refusal rather than raising it, to be told by the main thread."""
        try:
            data = packed(content)
            self._needed = len(data)
            self._checkpoints.write(data, step)
        except OSError as error:
            self._refused, self._retry_at = (content, step), time.monotonic() + RETRY_SECONDS
            return error
        self._refused = None
        return None

    def _settle(self, *, wait: bool) -> None:
        """Takes the result of the write in the background, where there is one (or, with ``wait``, once there is)."""
        if self._writing is None or not (wait or self._writing.done()):
            return
        writing, self._writing = self._writing, None
        if (error := writing.result()) is not None:
            self._say(f"{self._sentence(error)} Training goes on; the next try is in {RETRY_SECONDS:.0f} s.")

    def _sentence(self, error: OSError) -> str:
        """Says what could not be written and why, with the space that there is and that it takes."""
        path = self._checkpoints.last
        space = ""
        for folder in path.parents:
            if folder.is_dir():
                free = shutil.disk_usage(folder).free
                space = f" ({free / 2**20:,.1f} MiB are free, {self._needed / 2**20:,.1f} MiB are needed)"
                break
        return f"The checkpoint {path} cannot be written: {error.strerror or error}{space}."
