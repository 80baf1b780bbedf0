"""A listing's paths as one block of bytes: far less memory than as many strings, and ready to be hashed or saved."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray


class Paths(Sequence[str]):
    """Holds relative paths, in order; each becomes a string when it is asked for.

    ``block`` holds the paths as the file system spells them, "\\0" after each, which no path can contain.
    """

    def __init__(self, block: bytes) -> None:
        self.block = block
        self._ends: NDArray[np.int64] = np.flatnonzero(np.frombuffer(block, np.uint8) == 0)

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Paths":
        """Returns the same paths in this form."""
        return paths if isinstance(paths, cls) else cls(b"".join(os.fsencode(path) + b"\0" for path in paths))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> "Paths": ...
    def __getitem__(self, at: SupportsIndex | slice) -> "str | Paths":
        if isinstance(at, slice):
            return Paths.of(self[index] for index in range(*at.indices(len(self))))
        index = range(len(self))[at]  # negative ones too; raises IndexError
        start = self._ends[index - 1] + 1 if index else 0
        return os.fsdecode(self.block[start : self._ends[index]])

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends.tolist():
            yield os.fsdecode(self.block[start:end])
            start = end + 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Paths) and self.block == other.block

    def __hash__(self) -> int:
        return hash(self.block)
