"""The folder of one run: made and tried before anything is trained, and held by one run at a time."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import IO

from pipelines.errors import UserError
from pipelines.files import NO_LOCKS
from pipelines.names import readable

_LOCK = ".lock"
_MOMENT = 0.05
"""Seconds after which a look at the lock is over."""
_UNFINISHED = re.compile(r"\..+\.(?:[0-9a-f]{16}|\d+)\.(?:pt|png|jsonl?|txt|html)")
"""Names that pipelines.files.replacing gives, and that the version before gave."""


class RunFolder:
    """Holds ``path`` for this process until ``close``; the system ends the hold of a process that dies."""

    def __init__(self, path: Path) -> None:
        """Makes the folder and clears what a killed run left half-written.

        Raises UserError where the folder cannot be made or written, or another run holds it.
        """
        self.path = path
        self._lock: IO[str] | None = None
        self._is_new = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._hold()
            with tempfile.TemporaryFile(dir=path) as probe:
                probe.write(b"\0")
                probe.flush()
        except OSError as error:
            self.close()
            reason = "there is a file of that name" if isinstance(error, FileExistsError) else error.strerror or error
            raise UserError(
                f"The run's folder {readable(path)} cannot be written: {reason}. Name another with --out."
            ) from error
        self._clear()

    def require_room(self, needed: int) -> None:
        """Raises UserError where the folder's disk has fewer than ``needed`` bytes free."""
        if (free := shutil.disk_usage(self.path).free) < needed:
            raise UserError(
                f"The disk of {readable(self.path)} is full: {free / 2**20:,.1f} MiB are free, but the run's "
                f"checkpoints need {needed / 2**20:,.1f} MiB. Make room, or name another folder with --out."
            )

    def close(self) -> None:
        """Lets go of the folder, and removes it again if nothing was written to it; closing twice is fine."""
        if self._lock is None:
            return
        if self._is_new and [path.name for path in self.path.iterdir()] == [_LOCK]:
            with contextlib.suppress(OSError):
                (self.path / _LOCK).unlink()
                self.path.rmdir()
        self._lock.close()
        self._lock = None

    def _hold(self) -> None:
        path = self.path / _LOCK
        # Not truncated before it is held: its content names the holder.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self._lock = os.fdopen(descriptor, "r+", encoding="utf-8")
        try:
            _lock(descriptor)
        except BlockingIOError as error:
            holder = self._lock.read(1000).strip() or "an unknown process"
            self.close()
            raise UserError(
                f"Another run is writing to {readable(self.path)}: {holder}. Wait for it, stop it, or name "
                "another folder with --out."
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        self._lock.truncate()
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        self._lock.write(f"process {os.getpid()} on {json.dumps(socket.gethostname())}, since {started}\n")
        self._lock.flush()

    def _clear(self) -> None:
        """Removes the unfinished files of runs that were killed; this process alone holds the folder."""
        for left in self.path.iterdir():
            if _UNFINISHED.fullmatch(left.name):
                with contextlib.suppress(OSError):
                    left.unlink()


def is_held(folder: Path) -> bool:
    """Returns whether a run is writing to ``folder`` now."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks does not know
        return False
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> None:
    """Locks a file for this process; tries twice, since ``is_held`` holds it for a moment. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_MOMENT)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
