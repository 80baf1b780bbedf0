"""Files that are either old or new, never half-written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a name beside ``path`` to write to; it takes ``path``'s place on success and goes away on an error."""
    building = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        yield building
        with building.open("rb") as file:
            os.fsync(file.fileno())
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)
