"""metrics.jsonl: one line a record, each with a checksum, so that a damaged one is known and dropped."""

import json
import math
import time
import zlib
from pathlib import Path
from typing import NamedTuple

from pipelines.files import replacing

NAME = "metrics.jsonl"
_CHECKSUM = b'"crc32"'
_MOST_BYTES = 1 << 31
"""A larger file is not one that this program wrote."""


class Record(NamedTuple):
    """What was measured after ``step`` optimisation steps."""

    step: int
    time: float  # seconds since 1970
    values: dict[str, float]


class Records:
    """The records of one run, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._waiting: list[Record] = []  # what the disk has refused so far
        self.count = 0
        """Records of the run so far."""

    def append(self, record: Record) -> None:
        """Adds a record, after those that could not be written before. Raises OSError where the disk refuses them."""
        self._waiting.append(record)
        self.count += 1
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, self._waiting)))
        self._waiting.clear()

    def read(self) -> tuple[list[Record], int]:
        """Returns the whole records and how many lines are damaged. Raises OSError where the file cannot be read."""
        if not self.path.exists():
            return [], 0
        if not self.path.is_file() or self.path.stat().st_size > _MOST_BYTES:
            raise OSError(f"{self.path} is not a file of records")
        lines = [line for line in self.path.read_bytes().split(b"\n") if line]
        # The version before wrote no checksums: its lines come first, and a later one has lost its own.
        plain = next((at for at, line in enumerate(lines) if _CHECKSUM in line), len(lines))
        found = [_record(line) if at < plain or _CHECKSUM in line else None for at, line in enumerate(lines)]
        records = [record for record in found if record is not None]
        return records, len(found) - len(records)

    def keep(self, step: int, *, evaluated: bool, count: int) -> int:
        """Drops what a run that goes on after ``step`` steps will record again, and every damaged line.

        ``evaluated``: the evaluation after that step is not repeated. ``count``: how many records the run had then
        (0: not known), for a file that was cut where a line ends looks whole. Returns how many are damaged or gone.
        Raises OSError where the file cannot be read or written.
        """
        records, damaged = self.read()
        kept = [record for record in records if not _is_repeated(record, step, evaluated)]
        with replacing(self.path) as building:
            building.write_text("".join(map(_line, kept)), encoding="utf-8")
        self.count = len(kept)
        return max(damaged, count - len(kept))


def now(step: int, values: dict[str, float]) -> Record:
    """Returns a record of this moment."""
    return Record(step, round(time.time(), 3), values)


def _is_repeated(record: Record, step: int, evaluated: bool) -> bool:
    is_evaluation = any(name.startswith("val/") for name in record.values)
    return record.step > step or (record.step == step and is_evaluation and not evaluated)


def _line(record: Record) -> str:
    text = json.dumps({"step": record.step, "time": record.time, **record.values})
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'


def _record(line: bytes) -> Record | None:
    """Returns the record of a line; None where it is damaged. Older lines have neither checksum nor time."""
    try:
        content = json.loads(line)
        step, checksum = content.pop("step"), content.pop("crc32", None)
        record = Record(step, content.pop("time", 0.0), content)
        numbers = all(type(value) in (int, float) for value in (record.time, *content.values()))
        if type(step) is not int or step < 0 or not numbers or not math.isfinite(record.time):
            return None
        return record if checksum is None or _line(record).encode() == line + b"\n" else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
