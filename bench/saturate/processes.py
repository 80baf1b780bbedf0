"""Starts a process for each emulated accelerator and collects what they saw."""

import multiprocessing
from dataclasses import replace
from multiprocessing.connection import Connection, wait

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
    if setting.ranks > 1:
        setting = replace(setting, meeting=multiprocessing.get_context("spawn").Barrier(setting.ranks))
    with started(serve, setting.ranks, setting) as (ours, processes):
        try:
            answers: dict[int, Seen] = {}
            while missing := [rank for rank in range(setting.ranks) if rank not in answers]:
                ready = wait([ours[rank] for rank in missing], _PATIENCE + 10 * setting.step * setting.steps)
                if not ready:
                    raise DataError(f"Rank {missing[0]} of {setting.ranks} does not answer.")
                answers |= {rank: _received(ours[rank], rank) for rank in missing if ours[rank] in ready}
            return [answers[rank] for rank in range(setting.ranks)]
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
