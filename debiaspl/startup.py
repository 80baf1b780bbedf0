"""The first thing that an entry point does, before its slow imports: from then on Ctrl-C is answered in words."""

import os
import sys
from types import TracebackType


def answer_interrupts() -> None:
    """Ends the process with a line and status 130, not a traceback, where Ctrl-C meets its imports.

    Only entry points call this. What they run after their imports goes through ``pipelines.console.run``.
    """
    sys.excepthook = _excepthook


def prog(command: str, otherwise: str) -> str:
    """Returns what the user typed to start ``command``, for usage lines: 'debiaspl train', or ``otherwise``."""
    return sys.argv[0] if sys.argv[0].endswith(f"debiaspl {command}") else otherwise


def _excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, traceback)
    try:
        os.write(2, b"Interrupted.\n")
    finally:  # the terminal may be gone
        os._exit(128 + 2)
