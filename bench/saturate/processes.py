"""Starts a process for each emulated accelerator and collects what they saw."""

import tempfile
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from bench.saturate.rank import RankSetting, Seen, serve
from bench.step.rank_processes import started
from pipelines.errors import DataError

_PATIENCE = 300.0
"""Seconds beyond its steps' own that a rank may take to start and to load."""
_GOODBYE = 5.0
"""Seconds in which a rank that has answered ends by itself."""


def measure(setting: RankSetting) -> list[Seen]:
    """Runs all ranks at once and returns what each saw.

    Raises DataError with a rank's message, or where one ends or hangs without any.
    """
    with tempfile.TemporaryDirectory() as folder:
        setting = replace(setting, meeting=str(Path(folder, "meeting")))
        with started(serve, setting.ranks, setting) as (ours, processes):
            try:
                answers = []
                for rank, connection in enumerate(ours):
                    if not connection.poll(_PATIENCE + 10 * setting.step * setting.steps):
                        raise DataError(f"Rank {rank} of {setting.ranks} does not answer.")
                    answers.append(_received(connection, rank))
                return answers
            finally:
                for process in processes:
                    process.join(_GOODBYE)


def _received(connection: Connection, rank: int) -> Seen:
    try:
        answer = connection.recv()
    except EOFError as error:
        raise DataError(f"Rank {rank} ended before it answered; its own message stands above.") from error
    if isinstance(answer, str):
        raise DataError(answer)
    seen: Seen = answer
    return seen
