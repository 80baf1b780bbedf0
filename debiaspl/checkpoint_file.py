"""Checkpoint files that can be trusted: several generations of them, each read only if every byte is as it was written.

A file has torch's own format, a zip archive, with a SHA-256 of all its bytes as the archive's comment: ``torch.load``
and every zip program still read it. The newest is ``last.pt``; the ones before it are kept as ``step-<steps>.pt``, and
the one with the best networks as ``best.pt``, however old it is.
"""

import contextlib
import hashlib
import io
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipelines.errors import UserError
from pipelines.files import replacing

LAST = "last.pt"
"""Name of the newest checkpoint in a run's folder."""
BEST = "best.pt"
"""Name of the checkpoint of the best epoch so far."""
SET_ASIDE = "damaged.pt"
"""Name under which a damaged ``last.pt`` is kept when a new one takes its place."""
FORMAT = 2
"""Files of format 1 have no seal: their zip archive's own checksums must do."""
_OLDER = re.compile(r"step-(\d+)\.pt")
_END = struct.Struct("<4s16sH")  # a zip archive's last record: signature, counts and offsets, length of the comment
_STARTS = (b"PK", b"\x80\x02")  # of what torch.save writes: an archive, and its older format
_SEAL = b"sha256:"
_SEALED = len(_SEAL) + 2 * hashlib.sha256().digest_size


class CheckpointError(UserError):
    """A checkpoint is damaged, missing, or belongs to another experiment."""


def packed(content: dict[str, Any]) -> bytes:
    """Returns the bytes of a checkpoint file that holds ``content`` (tensors, numbers, text, lists and dicts)."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = bytearray(buffer.getbuffer())
    signature, counts, length = _END.unpack(data[-_END.size :])
    assert signature == b"PK\5\6", "torch.save ends its archive without a comment"
    assert length == 0, "torch.save ends its archive without a comment"
    data[-_END.size :] = _END.pack(signature, counts, _SEALED)
    return bytes(data) + _SEAL + hashlib.sha256(data).hexdigest().encode()


def unpacked(data: bytes, name: object) -> dict[str, Any]:
    """Returns the content of a checkpoint file's bytes; nothing in it is executed.

    Raises CheckpointError, which speaks of the file as ``name``, where a byte is not as it was written.
    """
    sealed = data[-_SEALED:].startswith(_SEAL)
    if sealed and hashlib.sha256(data[:-_SEALED]).hexdigest().encode() != data[-_SEALED + len(_SEAL) :]:
        raise CheckpointError(f"{name} is damaged: its bytes are not those that were written.")
    try:
        if not sealed and (member := zipfile.ZipFile(io.BytesIO(data)).testzip()):
            raise CheckpointError(f"{name} is damaged: the checksum of its part {member} is wrong.")
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile and torch.load raise whatever the damage makes them raise
        what = "empty" if not data else "another kind of file" if data[:2] not in _STARTS else ""
        why = f"it is {what}" if what else f"{type(error).__name__}: damaged, or it holds more than tensors"
        raise CheckpointError(f"{name} cannot be read as a checkpoint ({why}).") from error
    form = content.get("format") if isinstance(content, dict) else None
    if type(form) is not int or form not in range(1, FORMAT + 1):
        raise CheckpointError(f"{name} is not a checkpoint of this program (formats 1 to {FORMAT}).")
    if form != 1 and not sealed:
        raise CheckpointError(f"{name} is damaged: the checksum at its end is gone.")
    return content


def read(path: Path) -> dict[str, Any]:
    """Returns the content of the checkpoint ``path``. Raises CheckpointError where it is missing or damaged."""
    try:
        if path.is_dir():
            held = "Name a checkpoint in it, such as" if (path / LAST).exists() else "It holds no checkpoint such as"
            raise CheckpointError(f"{path} is a folder. {held} {path / LAST}.")
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is not a regular file.")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {path}.") from error
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error.strerror or error}.") from error
    return unpacked(data, path)


class Checkpoints:
    """Holds the checkpoints in one run's folder: the newest, up to ``keep - 1`` older ones, and the best one."""

    def __init__(self, folder: Path, keep: int) -> None:
        """``keep``: how many whole checkpoints stay beside the best one, at least 1."""
        self._folder, self._keep = folder, keep
        self._last_step: int | None = None  # of last.pt, where this process has written or read it whole

    @property
    def last(self) -> Path:
        """The path of the newest checkpoint, whether or not there is one."""
        return self._folder / LAST

    @property
    def best(self) -> Path:
        """Returns the path of the best checkpoint, whether or not there is one."""
        return self._folder / BEST

    def paths(self) -> list[Path]:
        """Returns all checkpoints that there are, the newest first and the best one, which may be old, last."""
        older = sorted(self._older(), reverse=True)
        return [path for path in (self.last, *(path for _, path in older), self.best) if path.exists()]

    def newest_whole(self) -> tuple[Path, dict[str, Any], list[CheckpointError]]:
        """Returns the newest checkpoint that is whole, its content, and what is wrong with each newer one.

        Damaged files stay where they are. Raises CheckpointError where no checkpoint is whole.
        """
        damaged: list[CheckpointError] = []
        for path in self.paths():
            try:
                content = read(path)
            except CheckpointError as error:
                damaged.append(error)
                continue
            self.know(path, content)
            return path, content, damaged
        reasons = "\n  ".join(map(str, damaged)) or "there is none"
        raise CheckpointError(f"No checkpoint in {self._folder} can be used:\n  {reasons}")

    def know(self, path: Path, content: dict[str, Any]) -> None:
        """Takes note that ``path`` holds ``content`` whole."""
        if path == self.last:
            self._last_step = int(content["progress"]["step"])

    def write(self, data: bytes, step: int) -> None:
        """Makes ``data`` (of ``packed``) the newest checkpoint. Raises OSError, with all others as they were.

        Where the disk is too full for one more file, older ones than the last give way, but never the best one.
        """
        self._make_way(lambda: self._write_last(data, step))

    def write_best(self, data: bytes) -> None:
        """Makes ``data`` the best checkpoint. Raises OSError as ``write`` does, and older ones give way as there."""
        self._make_way(lambda: self._write_best(data))

    def _make_way(self, write: Callable[[], None]) -> None:
        """Calls ``write``, and once more without the older checkpoints where the disk refuses."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            write()
        except OSError:
            older = [path for _, path in self._older()]
            if not (older and self._last_step is not None):
                raise
            for path in older:
                path.unlink()
            write()

    def _write_best(self, data: bytes) -> None:
        with replacing(self.best) as building:
            building.write_bytes(data)

    def _write_last(self, data: bytes, step: int) -> None:
        with replacing(self.last) as building:
            building.write_bytes(data)
            if self.last.exists() and self._last_step != step:  # the same step again adds its evaluation at most
                self._retire_last()
        self._last_step = step
        for _, path in sorted(self._older(), reverse=True)[max(0, self._keep - 1) :]:
            path.unlink(missing_ok=True)

    def _retire_last(self) -> None:
        """Gives the file that is to be replaced a second name: none is lost before the new one is there."""
        if self._last_step is None:  # not written or read by this process
            with contextlib.suppress(CheckpointError):
                self.know(self.last, read(self.last))
        elif self._keep == 1:
            return
        older = self._folder / (SET_ASIDE if self._last_step is None else f"step-{self._last_step:08}.pt")
        older.unlink(missing_ok=True)
        try:
            os.link(self.last, older)
        except OSError:  # a file system without hard links
            self.last.rename(older)

    def _older(self) -> list[tuple[int, Path]]:
        """Returns (steps, path) of the checkpoints before the last."""
        if not self._folder.is_dir():
            return []
        found = ((_OLDER.fullmatch(path.name), path) for path in self._folder.iterdir())
        return [(int(match[1]), path) for match, path in found if match]
