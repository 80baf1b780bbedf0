"""Starts one process for each rank of ``python -m bench ranks``, and gives them orders."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch.multiprocessing as multiprocessing

from bench.step.exchange import RankSetting, serve


@contextmanager
def ranks(setting: RankSetting) -> Iterator[list[Connection]]:
    """Starts a process for each rank and yields the connections to them, when all are ready for orders."""
    context = multiprocessing.get_context("spawn")
    ours, processes = [], []
    try:
        for rank in range(setting.world):
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, setting, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process ends the connection
            ours.append(mine)
            processes.append(process)
        for connection in ours:
            connection.recv()
        yield ours
        for connection in ours:
            connection.send(("", 0))
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
            process.join()


def order(connections: list[Connection], name: str, steps: int) -> int:
    """Has every rank do so many steps in the way called ``name``, waits for them, and returns their number."""
    for connection in connections:
        connection.send((name, steps))
    for connection in connections:
        connection.recv()
    return steps
