"""Starts one process for each rank of a measurement, and gives those of ``python -m bench ranks`` their orders."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import torch.multiprocessing as multiprocessing

from bench.step.exchange import RankSetting, serve


@contextmanager
def started(
    serve: Callable[[int, Any, Connection], None], count: int, setting: Any
) -> Iterator[tuple[list[Connection], list[SpawnProcess]]]:
    """Starts ``serve(rank, setting, connection)`` in so many processes; yields our ends and the processes.

    What still runs at the end of the block is terminated.
    """
    context = multiprocessing.get_context("spawn")
    ours, processes = [], []
    try:
        for rank in range(count):
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, setting, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process ends the connection
            ours.append(mine)
            processes.append(process)
        yield ours, processes
    finally:
        for process in processes:
            process.terminate()
            process.join()


@contextmanager
def ranks(setting: RankSetting) -> Iterator[list[Connection]]:
    """Starts a process for each rank and yields the connections to them, when all are ready for orders."""
    with started(serve, setting.world, setting) as (ours, processes):
        for connection in ours:
            connection.recv()
        yield ours
        for connection in ours:
            connection.send(("", 0))
        for process in processes:
            process.join()


def order(connections: list[Connection], name: str, steps: int) -> int:
    """Has every rank do so many steps in the way called ``name``, waits for them, and returns their number."""
    for connection in connections:
        connection.send((name, steps))
    for connection in connections:
        connection.recv()
    return steps
