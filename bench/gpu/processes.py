"""Runs a part in a forked process: a crash, a poisoned CUDA context or a hang ends that part alone.

The parent never touches CUDA, which a forked process could then not use.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

_LINES = 6
"""Lines of a traceback that are kept."""


class Ended(Exception):
    """Says why a process ended before its work was done."""


def forked(work: Callable[[Callable[[Any], None]], None], seconds: float) -> Iterator[Any]:
    """Yields what ``work`` hands on in a process of its own, as it comes.

    Raises Ended where the work raises, its process dies, or ``seconds`` have passed; the process and its children are
    gone then.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, theirs), daemon=False)
    process.start()
    theirs.close()  # so that the end of the process ends the connection
    deadline = time.monotonic() + seconds
    try:
        while ours.poll(max(0.0, deadline - time.monotonic())):
            kind, content = ours.recv()
            if kind == "failed":
                raise Ended(content)
            if kind == "done":
                return
            yield content
        raise Ended(f"stopped after its {seconds:.0f} s")
    except EOFError:
        process.join()
        raise Ended(f"its process died (status {process.exitcode})") from None
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def _run(work: Callable[[Callable[[Any], None]], None], connection: Connection) -> None:
    os.setsid()  # a group of its own, whose members can be ended together
    try:
        work(lambda content: connection.send(("found", content)))
        connection.send(("done", None))
    except BaseException:
        connection.send(("failed", " | ".join(traceback.format_exc().strip().splitlines()[-_LINES:])))
    finally:
        connection.close()
        os._exit(0)  # what libraries do at their end proves nothing here
