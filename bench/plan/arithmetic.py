"""How many images a second a number of GPUs takes, what a host supplies, and what gives out first.

Words: a group is the 48 images that one GPU's step takes; a core-ms is a millisecond of one core. A rate is in source
images per second, each image counted once, however many views are cut from it.
"""

import math
from dataclasses import dataclass
from typing import Literal

from bench.arguments import STEP, UNLABELED
from bench.plan.devices import GRADIENT_BYTES

IMAGENET = 1_281_167
"""Training images."""
CROPS = 168
STRONG_CROPS = 80
_CACHED = 0.8
"""Share of a host's memory that the page cache may fill with the data."""
Part = Literal["GPU", "cores", "disk", "network"]


def core_ms_of_step(decode: float, crop: float, augment: float = 0.0) -> float:
    """Returns the core-ms of a group's step, from the ms of one decode, of one crop, of one RandAugment on the CPU."""
    return STEP * decode + CROPS * crop + STRONG_CROPS * augment


@dataclass(frozen=True)
class Mode:
    """Holds how images are stored, and what one costs."""

    name: str
    core_ms: float
    """Core-ms of one image, all its views finished."""
    kilobytes: float
    """Read for one image."""
    source: str


BUILT_IN = (
    Mode("ffcv, JPEGs", 1.59, 110, "docs/measurements.md: idle 2-core AMD EPYC, 2026-11-22; ImageNet's mean size"),
    Mode("ffcv, planes", 0.81, 300, "51 % of the JPEGs' core-ms; mostly 4:2:0"),
)
"""Without a report, strong views included."""


@dataclass(frozen=True)
class Host:
    """One of the equal hosts."""

    gpus: int
    cores: int
    memory_gb: float
    disk_mb_s: float
    network_gbit_s: float
    step_cores: float = 1.0
    """Cores that each GPU's own process takes for launching kernels; the loader has the others."""

    def cores_for_loading(self, gpus: int) -> float:
        """Returns the cores that are left where so many GPUs train."""
        return max(0.0, self.cores - self.step_cores * gpus)

    def caches(self, mode: Mode) -> bool:
        """Returns whether ImageNet's training images stay in memory after the first epoch."""
        return IMAGENET * mode.kilobytes / 1e6 <= _CACHED * self.memory_gb


@dataclass(frozen=True)
class Row:
    """A number of GPUs on equal hosts, in one mode of storage. Rates are of one GPU, in images per second."""

    gpus: int
    hosts: int
    mode: Mode
    needed: float
    """What a GPU takes that never waits for images, the exchange between hosts included."""
    by_cores: float
    by_disk: float
    """Infinite where the images are in memory, which they are from the second epoch on."""
    exchange_seconds: float
    """A step's exchange of gradients between hosts, none of it hidden."""
    bottleneck: Part

    @property
    def supplied(self) -> float:
        """Returns what the host supplies to a GPU."""
        return min(self.by_cores, self.by_disk)

    @property
    def rate(self) -> float:
        """Returns what a GPU trains on."""
        return min(self.needed, self.supplied)

    @property
    def threads(self) -> int:
        """Decoding threads for each GPU that meet its need, or all that there are."""
        return max(1, math.ceil(self.mode.core_ms * min(self.needed, self.by_cores) / 1000 - 1e-9))

    @property
    def cores_needed(self) -> float:
        """Cores for loading on each host that keep its GPUs busy."""
        return self.gpus / self.hosts * self.needed * self.mode.core_ms / 1000

    def hours(self, epochs: int, unlabeled: int) -> float:
        """Returns the hours of so many passes over the unlabeled images, which all GPUs share."""
        return epochs * unlabeled / (UNLABELED * self.gpus) * STEP / self.rate / 3600


def row(gpus: int, host: Host, mode: Mode, step_seconds: float, *, cold: bool = False) -> Row:
    """Returns the row of so many GPUs; ``cold``: as in the first epoch, when all images come from the disk."""
    hosts = math.ceil(gpus / host.gpus)
    on_one = math.ceil(gpus / hosts)
    exchange = 2 * (hosts - 1) / hosts * GRADIENT_BYTES * 8 / (host.network_gbit_s * 1e9)
    alone, needed = STEP / step_seconds, STEP / (step_seconds + exchange)
    by_cores = 1000 * host.cores_for_loading(on_one) / mode.core_ms / on_one
    reads = cold or not host.caches(mode)
    by_disk = 1000 * host.disk_mb_s / mode.kilobytes / on_one if reads else math.inf
    if needed <= min(by_cores, by_disk):
        bottleneck: Part = "network" if exchange > 0.1 * STEP / alone else "GPU"
    else:
        bottleneck = "cores" if by_cores <= by_disk else "disk"
    return Row(gpus, hosts, mode, needed, by_cores, by_disk, exchange, bottleneck)


def best_mode(rows: list[Row]) -> Row:
    """Returns the row with the highest rate; of equal ones, that which reads the least."""
    return max(rows, key=lambda each: (round(each.rate, 1), -each.mode.kilobytes))


def gpu_counts(host: Host, hosts: int) -> list[int]:
    """Returns 1, 2, 4 … GPUs up to all of the hosts', and the first host's own number."""
    most = host.gpus * hosts
    return sorted({min(2**power, most) for power in range(most.bit_length() + 1)} | {host.gpus})
