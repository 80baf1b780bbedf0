"""Pillow's warnings about odd files, counted: each kind is said once, as a line above any progress bar."""

import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines import console

_NUMBER = re.compile(r"\d+")


class PillowWarnings:
    """Counts warnings by kind: their text without its numbers."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._lock = threading.Lock()  # files are read in threads

    def add(self, text: str) -> None:
        """Counts a warning; says the first one of its kind."""
        line = " ".join(text.split())
        kind = _NUMBER.sub("#", line)
        with self._lock:
            self._counts[kind] += 1
            first = self._first.setdefault(kind, line)
            new = self._counts[kind] == 1
        if new:
            console.say(f"Pillow warns of a file, and reads it all the same: {first}", error=True)

    def lines(self) -> list[str]:
        """Returns a line for each kind that came more than once."""
        return [
            f"Pillow warned {count} times: {self._first[kind]}" for kind, count in self._counts.items() if count > 1
        ]


@contextmanager
def counted() -> Iterator[PillowWarnings]:
    """Catches Pillow's warnings within the block, in all threads; those that came again are summed up at its end."""
    found, show = PillowWarnings(), warnings.showwarning

    def showwarning(message: Any, category: Any, filename: str, *rest: Any, **more: Any) -> None:
        if "/PIL/" in filename:
            found.add(str(message))
        else:
            show(message, category, filename, *rest, **more)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"PIL\.")
        warnings.showwarning = showwarning
        try:
            yield found
        finally:
            for line in found.lines():
                console.say(line, error=True)
