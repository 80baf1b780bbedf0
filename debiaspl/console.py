"""The terminal, which may be closed, gone or unable to spell a name: a line is shown where it can be, or not at all."""

import os
import sys
from typing import Any, TextIO

from tqdm import tqdm


def prepare() -> None:
    """Makes standard output and error safe to write to; an entry point calls it first.

    Descriptors that the parent closed are opened on nothing, so that no file of ours gets their numbers. What an
    encoding cannot spell is written as an escape.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(line: str, *, error: bool = False) -> None:
    """Prints ``line`` to standard output (or ``error``), above a progress bar, and nowhere if nobody can read it."""
    stream = sys.stderr if error else sys.stdout
    try:
        tqdm.write(line, file=stream)
        stream.flush()
    except (OSError, ValueError):  # its reader is gone, its terminal hung up, or it is closed
        give_up(stream)


def show(renderable: Any) -> None:
    """Prints a table or another renderable of rich to standard output; nowhere if nobody can read it."""
    from rich.console import Console

    try:
        Console(highlight=False).print(renderable)
        sys.stdout.flush()
    except (OSError, ValueError):
        give_up(sys.stdout)


def give_up(stream: TextIO) -> None:
    """Points a stream whose reader is gone at nothing, so that neither later lines nor Python's exit meet it again."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError):  # no descriptor behind it: Python's exit does not flush it either
        return
