"""One emulated accelerator in a process of its own: the real pipeline, a step that sleeps, and a barrier after each."""

import os
import resource
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bench.arguments import LABELED, UNLABELED
from bench.four_views import LABELED_VIEWS, PLANES, UNLABELED_VIEWS, beton, streams
from bench.verdict.timing import epochs
from pipelines import open_source
from pipelines.errors import UserError
from pipelines.order import Stream, TrainingOrder
from pipelines.samples.listing import Listing, list_images
from pipelines.sources.feed import Feed
from pipelines.sources.options import Resources


@dataclass(frozen=True)
class RankSetting:
    """Holds what all ranks of a measurement have in common."""

    pipeline: str
    root: Path
    """Has ``train/<class>/<image>``, and the converted files."""
    ranks: int
    threads: int
    """Of each rank's sources."""
    step: float
    """Seconds that a step sleeps; 0 asks how fast the loader is alone."""
    steps: int
    warm_up: int = 4
    """Steps before the clock starts."""
    slowed: dict[int, float] = field(default_factory=dict)
    """Rank → how many times as long its steps sleep."""
    meeting: Barrier | None = None
    """Where all ranks meet after a step; one rank meets nobody."""


class Seen(NamedTuple):
    """Holds what one rank saw. Times in seconds, of all counted steps together."""

    steps: int
    elapsed: float
    slept: float
    waited: float
    """For batches."""
    behind: float
    """At the barrier, for the slowest rank."""
    cpu: float
    variation: float
    """Standard deviation over mean of the time between two steps' ends."""
    resident: int
    """Bytes of memory at most."""
    read: int
    """Bytes that came from the disk."""

    @property
    def utilization(self) -> float:
        """Returns the accelerator's utilization: the share of the time that its steps took."""
        return self.slept / self.elapsed


def serve(rank: int, setting: RankSetting, connection: Connection) -> None:
    """Runs one rank and sends what it saw, or the message of an error that a user can mend."""
    torch.set_num_threads(1)
    before = _read_bytes()
    try:
        listing = list_images(setting.root / "train")
        feed = open_rank(rank, setting, listing)
        try:
            seen = run(rank, setting, feed, setting.meeting.wait if setting.meeting else lambda: None)
            if setting.warm_up == 0:  # what was read ahead counts, too
                seen = seen._replace(read=_read_bytes() - before)
            connection.send(seen)
        finally:
            feed.close()
    except UserError as error:
        connection.send(str(error))


def open_rank(rank: int, setting: RankSetting, listing: Listing) -> Feed:
    """Opens a rank's share of the four-view recipe as training does, in epochs that do not end while it is measured."""
    labeled, unlabeled = streams(listing)
    resources = Resources(
        threads=setting.threads,
        processes=setting.ranks,
        beton=beton(setting.root, setting.threads, planes=setting.pipeline == PLANES)
        if setting.pipeline.startswith("ffcv")
        else None,
    )

    def order(indices: NDArray[np.int64], stream: Stream, images: int) -> TrainingOrder:
        shares = {"groups": setting.ranks, "rank": rank, "world": setting.ranks}
        steps, batch = setting.warm_up + setting.steps + 8, images * setting.ranks
        return TrainingOrder(indices, seed=0, stream=stream, batch=batch, steps=steps, continuous=True, **shares)

    name = setting.pipeline.partition(",")[0]
    first = open_source(name, listing, order(labeled, Stream.LABELED, LABELED), LABELED_VIEWS, resources)
    second = open_source(name, listing, order(unlabeled, Stream.UNLABELED, UNLABELED), UNLABELED_VIEWS, resources)
    return Feed(first, second, prefetch=2)


def run(
    rank: int,
    setting: RankSetting,
    feed: Feed,
    barrier: Callable[[], object],
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.perf_counter,
) -> Seen:
    """Takes the steps and returns what was seen of those after the warm-up."""
    seconds = setting.slowed.get(rank, 1.0) * setting.step
    slept = waited = behind = 0.0
    ends: list[float] = []
    computed, read = time.process_time(), _read_bytes()
    with closing(epochs(feed)) as batches:
        for number in range(-setting.warm_up, setting.steps):
            if number == 0:
                slept = waited = behind = 0.0
                computed, read = time.process_time(), _read_bytes()
                ends = [clock()]
            asked = clock()
            batch = next(batches)
            took = clock()
            del batch  # a device has its own copy: the host frees this one while the device works
            sleep(max(0.0, took + seconds - clock()))
            done = clock()
            barrier()
            ends.append(clock())
            waited, slept, behind = waited + took - asked, slept + done - took, behind + ends[-1] - done
        cpu = time.process_time() - computed
    between, elapsed = np.diff(ends), ends[-1] - ends[0]
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    variation = float(between.std() / between.mean())
    return Seen(setting.steps, elapsed, slept, waited, behind, cpu, variation, resident, _read_bytes() - read)


def _read_bytes(process: Path = Path("/proc/self/io")) -> int:
    """Returns the bytes that this process has read from the disk so far; 0 where the kernel does not say."""
    try:
        lines = dict(line.split(": ") for line in process.read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 0
    return int(lines.get("read_bytes", 0))


def cores_of_each(ranks: int) -> int:
    """Returns how many threads each of so many ranks has: the cores of this process, shared."""
    return max(1, len(os.sched_getaffinity(0)) // ranks)
