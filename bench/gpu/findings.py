"""What the parts of ``bench gpu`` find: assertions that are met, missed or not run, and numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Status = Literal["met", "missed", "not run"]


class Check(NamedTuple):
    """One assertion, and what became of it."""

    what: str
    status: Status
    detail: str
    """Says what was found, or why it was not run."""


class Number(NamedTuple):
    """Something that was measured and that no assertion is about."""

    what: str
    value: str


Found = Check | Number


@dataclass(frozen=True)
class Part:
    """A part of the measurement, which runs in a process of its own."""

    name: str
    title: str
    minutes: float
    """Its share of the time."""
    module: str
    """Has ``run(findings, settings)``."""
    checks: tuple[str, ...]
    """All its assertions: one that it does not come to is reported as not run."""


class Findings:
    """Takes what a part finds, and hands each on at once, so that it outlives whatever happens to the part."""

    def __init__(self, hand_on: Callable[[Found], object]) -> None:
        self._hand_on = hand_on

    def check(self, what: str, held: bool, detail: str) -> None:
        """Notes an assertion as met or missed."""
        self._hand_on(Check(what, "met" if held else "missed", detail))

    def not_run(self, reason: str, whats: Sequence[str]) -> None:
        """Notes assertions that cannot be put to the test, and why."""
        for what in whats:
            self._hand_on(Check(what, "not run", reason))

    def number(self, what: str, value: str) -> None:
        """Notes a measured value, with its unit."""
        self._hand_on(Number(what, value))


@dataclass(frozen=True)
class Settings:
    """Holds what all parts are given."""

    folder: Path
    """Holds the pictures that the parts make; goes at the end."""
    quick: bool
    """Fewer and smaller of everything: whether it works, not how well."""

    @property
    def device(self) -> str:
        """Returns "cuda" where a GPU is usable, else "cpu". Not asked before the parts' processes begin: see run.py."""
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def count(self, many: int, few: int) -> int:
        """Returns ``few`` on a CPU or in a quick run, otherwise ``many``."""
        return few if self.quick or self.device == "cpu" else many


NEEDS_GPU = "needs a GPU"
