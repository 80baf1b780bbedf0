"""The line that says what is waited for: on a terminal it changes and goes, in a pipe there is none."""

import fcntl
import os
import pty
import struct
import sys
import termios

from pipelines import console


def terminal() -> tuple[int, int]:
    """The two ends of a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    return ours, theirs


def test_nothing_in_a_pipe(capsys):
    with console.waiting("reading") as now:
        now("opening")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_on_a_terminal_it_changes_and_goes(monkeypatch):
    ours, theirs = terminal()
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with console.waiting("reading a\x1b[31mb") as now:
            now("opening")
        stream.flush()
        shown = os.read(ours, 10_000).decode()
        while not shown.endswith(" \r"):  # wiped out at the end; a terminal hands over in pieces
            shown += os.read(ours, 10_000).decode()
    os.close(ours)
    assert r"reading a\x1b[31mb …" in shown
    assert "opening …" in shown


def test_a_terminal_that_goes_ends_nothing(monkeypatch):
    ours, theirs = terminal()
    monkeypatch.setattr(sys, "stderr", os.fdopen(theirs, "w"))
    with console.waiting("reading") as now:
        os.close(ours)
        now("opening")
