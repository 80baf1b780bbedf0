"""Lets the bench run from a checkout that is not installed: plain replacements for jaxtyping and tqdm.

Our modules import both at once, for shapes in signatures and for progress bars, neither of which a measurement needs.
A machine that is lent for an hour may have torch, numba and Pillow alone.
"""

import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Self, TextIO


def provide() -> list[str]:
    """Puts a replacement in the place of each of the two packages that is not installed; returns their names."""
    absent = []
    for name, replacement in {"jaxtyping": _Shapes("jaxtyping"), "tqdm": _progress()}.items():
        if name not in sys.modules and find_spec(name) is None:  # looked for, not imported: that takes long
            replacement.__spec__ = ModuleSpec(name, loader=None)  # torch's compiler looks for some packages, too
            sys.modules[name] = replacement
            absent.append(name)
    return absent


class _Shape:
    """An annotation that says nothing: ``Float[Tensor, "n c"]`` is the tensor's own type."""

    def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
        return item[0]


class _Shapes(ModuleType):
    """Has every name that jaxtyping may be asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Shape


class _Progress:
    """A progress bar that nobody sees, with the methods of tqdm's that our modules call."""

    def __init__(self, iterable: Iterable[Any] = (), *_: Any, **__: Any) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends nothing."""

    def update(self, _: int = 1) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Closes nothing."""

    @staticmethod
    def write(text: str, file: TextIO | None = None) -> None:
        """Prints a line."""
        print(text, file=file)


def _progress() -> ModuleType:
    module = ModuleType("tqdm")
    module.tqdm = _Progress  # type: ignore[attr-defined]
    return module
