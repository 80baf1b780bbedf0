"""The terminal, which may be closed, gone or unable to spell a name: a line is shown where it can be, or not at all."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TextIO

from tqdm import tqdm

from pipelines.errors import UserError
from pipelines.names import readable

_Arguments = ParamSpec("_Arguments")


def run(main: Callable[[], int]) -> NoReturn:
    """Runs an entry point with a prepared terminal and exits with the status that it returns; 130 after Ctrl-C."""
    prepare()
    try:
        status = main()
    except KeyboardInterrupt:
        say("Interrupted.", error=True)
        status = 130
    sys.exit(status)


def tells_errors(main: Callable[_Arguments, int]) -> Callable[_Arguments, int]:
    """Returns an entry point's ``main`` that says what a user has to mend in one message, and then returns 2."""

    @wraps(main)
    def told(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> int:
        try:
            return main(*arguments, **options)
        except UserError as error:
            say(f"error: {error}", error=True)
            return 2

    return told


def prepare() -> None:
    """Makes standard output and error safe to write to, for our own lines and for those of libraries.

    Descriptors that the parent closed are opened on nothing, so that no file of ours gets their numbers. What an
    encoding cannot spell is written as an escape, and what nobody can read is dropped.
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
        elif isinstance(stream, io.TextIOWrapper) and not isinstance(stream, _Forgiving):
            stream.flush()
            buffered, live = stream.line_buffering or name == "stderr", stream.write_through
            encoding = stream.encoding
            again = _Forgiving(
                stream.detach(), encoding, "backslashreplace", line_buffering=buffered, write_through=live
            )
            setattr(sys, name, again)


class _Forgiving(io.TextIOWrapper):
    """A stream that outlives its reader: from the first line that cannot be written on, it writes to nothing."""

    def write(self, text: str) -> int:
        """Writes ``text`` where that is possible; returns its length."""
        try:
            return super().write(text)
        except OSError:  # its reader is gone, its terminal hung up, its disk full
            give_up(self)
            return len(text)

    def flush(self) -> None:
        """Hands on what waits, where that is possible."""
        try:
            super().flush()
        except OSError:
            give_up(self)


def say(text: str, *, error: bool = False) -> None:
    """Prints lines to standard output (or ``error``), above a progress bar, and nowhere if nobody can read them.

    Whatever names they hold, no control character but the line breaks reaches the terminal.
    """
    stream = sys.stderr if error else sys.stdout
    try:
        tqdm.write("\n".join(map(readable, text.split("\n"))), file=stream)
        stream.flush()
    except (OSError, ValueError):  # its reader is gone, its terminal hung up, or it is closed
        give_up(stream)


@contextmanager
def waiting(what: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Shows on a terminal what is waited for, in one line that goes when the block ends; nothing in a pipe.

    Yields what puts other words into the line.
    """
    line = _line(what, quiet=quiet or not sys.stderr.isatty())

    def now(what: str) -> None:
        try:
            line.set_description_str(readable(what))
        except (OSError, ValueError):  # the terminal is gone
            give_up(sys.stderr)

    try:
        yield now
    finally:
        with suppress(OSError, ValueError):
            line.close()


def _line(what: str, *, quiet: bool) -> Any:
    """Returns a tqdm that is one line of words: what is printed above it does not tear it."""
    try:
        return tqdm(desc=readable(what), bar_format="{desc} …", leave=False, disable=quiet)
    except (OSError, ValueError):
        give_up(sys.stderr)
        return tqdm(disable=True)


def show(renderable: Any) -> None:
    """Prints a table or another renderable of rich to standard output; nowhere if nobody can read it."""
    from rich.console import Console

    try:
        Console(highlight=False, markup=False).print(renderable)
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
