"""What a process holds, and waiting for it to let go: a busy machine ends joined threads late.

A thread that was joined stays in /proc until the system has run it once more, and a pool starts a thread only when
its others are busy. So counts are waited for with a bound, never read once.
"""

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

WAIT = 120.0
"""Seconds after which what was waited for counts as not happening."""


def thread_count() -> int:
    """The threads of this process, those that Python knows nothing of included."""
    return len(os.listdir("/proc/self/task"))


def descriptors() -> int:
    """The open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def memory_mib() -> float:
    """The memory of this process in MiB, without what the allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def comes_true(condition: Callable[[], bool]) -> bool:
    """Waits until the condition holds; False if it did not within WAIT seconds."""
    deadline = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def steady(count: Callable[[], int]) -> int:
    """Waits until the count has not changed for half a second, and returns it."""
    last, since = count(), time.monotonic()
    deadline = since + WAIT
    while time.monotonic() < min(since + 0.5, deadline):
        time.sleep(0.01)
        if (now := count()) != last:
            last, since = now, time.monotonic()
    return last


def assert_nothing_grows(cut_short: Callable[[int], None], epochs: int, threads_of_a_pool: int) -> None:
    """Calls ``cut_short(epoch)`` for each epoch, and asserts that threads, descriptors and memory stay what they were.

    The first five epochs start what is started once. Afterwards a pool may still start one of its threads.
    """
    for epoch in range(5):
        cut_short(epoch)
    held_threads, held_descriptors, memory = steady(thread_count), steady(descriptors), []
    for epoch in range(5, epochs):
        cut_short(epoch)
        memory.append(memory_mib())
    most = held_threads + threads_of_a_pool
    assert comes_true(lambda: thread_count() <= most), f"{thread_count()} threads where {most} are allowed"
    assert comes_true(lambda: descriptors() <= held_descriptors), f"{descriptors()} files where {held_descriptors} were"
    # The least of several readings: batches that are being prepared come and go.
    assert min(memory[-5:]) - min(memory[:5]) < 10, memory
