"""What the machine can do at best, each part by itself: read, decode, make views, copy, take a step."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bench.arguments import STEP
from bench.four_views import PLANES, open_feed
from bench.loader import page_cache
from bench.yardsticks.decode_only import DecodeOnly
from debiaspl.models.trunks import build_trunk
from pipelines import NAMES
from pipelines.errors import UserError
from pipelines.samples.listing import Listing

_COPIED = 64 * 2**20
_SECONDS = 1.0
"""For which each ceiling is measured, at least."""
_LONG = 3
"""Multiples of that time after which nothing is repeated."""
_STEP_IMAGES, _STEP_SIZE = 8, 64
RESNET18_FLOP = 2 * 1.82e9 * (_STEP_SIZE / 224) ** 2 * 3
"""Operations of training ResNet-18 on one image of the small step; forward and backward are three forward passes."""


class Ceiling(NamedTuple):
    """One ceiling; NaN where it cannot be measured, and why."""

    what: str
    value: float
    unit: str
    why_not: str = ""


class Ceilings(NamedTuple):
    """All that was measured."""

    rows: list[Ceiling]
    loaders: dict[str, float]
    """Pipeline → images per second with all views, on all cores."""
    flops: dict[str, float]
    """Precision → operations per second of a small step."""


def measure(listing: Listing, root: Path, threads: int) -> Ceilings:
    """Measures all ceilings on a sample of images, with so many threads."""
    paths = [listing.path(index) for index in range(len(listing))]
    rows = [_cold(paths, threads), _rate_of(_reader(paths, threads), "read, from memory", "MB/s")]
    rows.append(_decode(paths, threads))
    loaders, absent = _loaders(listing, root, threads)
    rows += [Ceiling(f"all views, {name}", rate, "images/s") for name, rate in loaders.items()]
    rows += [Ceiling(f"all views, {name}", float("nan"), "images/s", why) for name, why in absent.items()]
    rows.append(_rate_of(_copier(), "copy in memory", "MB/s"))
    flops = {str(precision).removeprefix("torch."): _flops(precision) for precision in (torch.float32, torch.bfloat16)}
    rows += [Ceiling(f"small training step, {name}", rate / 1e9, "GFLOP/s") for name, rate in flops.items()]
    return Ceilings(rows, loaders, flops)


def rate(work: Callable[[], float], seconds: float = _SECONDS, clock: Callable[[], float] = time.perf_counter) -> float:
    """Returns the units per second of the best of several runs, as a ceiling is; ``work`` returns its units.

    A first run that takes long, as where the processor lacks what the work needs, is the only one.
    """
    found: list[float] = []
    begin = clock()
    while len(found) < 2 or clock() - begin < seconds:
        started = clock()
        units = work()
        found.append(units / (clock() - started))
        if clock() - begin > _LONG * seconds:
            break
    return max(found)


def _rate_of(work: Callable[[], float], what: str, unit: str) -> Ceiling:
    return Ceiling(what, rate(work), unit)


def _reader(paths: list[Path], threads: int) -> Callable[[], float]:
    def read() -> float:
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda path: len(path.read_bytes()), paths)) / 1e6

    return read


def _cold(paths: list[Path], threads: int) -> Ceiling:
    what = "read, from the disk"
    try:
        page_cache.drop([path.resolve() for path in paths])
    except (UserError, OSError) as error:
        return Ceiling(what, float("nan"), "MB/s", str(error))
    begin = time.perf_counter()
    return Ceiling(what, _reader(paths, threads)() / (time.perf_counter() - begin), "MB/s")


def _decode(paths: list[Path], threads: int) -> Ceiling:
    what, jpegs = "decode JPEGs", [path for path in paths if path.read_bytes()[:3] == b"\xff\xd8\xff"]
    try:
        if not jpegs:
            return Ceiling(what, float("nan"), "images/s", "the sample has none")
        decoding = DecodeOnly(jpegs, threads)
    except UserError as error:
        return Ceiling(what, float("nan"), "images/s", str(error))
    try:
        return _rate_of(lambda: len(decoding.epoch()), what, "images/s")
    finally:
        decoding.close()


def _loaders(listing: Listing, root: Path, threads: int) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the rate of every pipeline that can be opened, and why others cannot."""
    rates, absent = {}, {}
    for name in (*NAMES, PLANES):
        with ExitStack() as opened:
            try:
                feed = open_feed(name, listing, root, threads)
                opened.callback(feed.close)
                for _ in feed:
                    pass  # compiles what is not compiled yet
                rates[name] = rate(lambda feed=feed: STEP * sum(1 for _ in feed))  # type: ignore[misc]
            except (UserError, ModuleNotFoundError) as error:
                absent[name] = str(error)
    return rates, absent


def _copier() -> Callable[[], float]:
    source, target = np.zeros(_COPIED, np.uint8), np.zeros(_COPIED, np.uint8)

    def copy() -> float:
        np.copyto(target, source)
        return _COPIED / 1e6

    return copy


def _flops(precision: torch.dtype) -> float:
    """Returns operations per second of training ResNet-18 on small images, on a GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trunk, _ = build_trunk("resnet18", _STEP_SIZE)
    trunk = trunk.to(device).to(memory_format=torch.channels_last)
    pixels = torch.zeros(_STEP_IMAGES, 3, _STEP_SIZE, _STEP_SIZE, device=device)
    pixels = pixels.to(memory_format=torch.channels_last)

    def step() -> float:
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            loss = trunk(pixels).float().square().mean()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return _STEP_IMAGES * RESNET18_FLOP

    return rate(step)
