"""T3: what DALI decodes is what Pillow decodes, within bounds; it stays so under load; damage is found and cheap.

The pictures are as large as the views and cut whole, so that nothing is resized and all differences are the decoder's.
nvJPEG is not libjpeg-turbo: its inverse DCT and its chroma upsampling round otherwise.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.gpu import pictures, sources
from bench.gpu.findings import Findings, Settings
from pipelines import DaliOptions, Listing, TrainingViews, list_images
from pipelines.batch import Source, Views
from pipelines.samples.bad_files import BadFiles

BOUND, RUNS, LAYOUTS = (
    "every kind of file is within its bound",
    "two runs are equal",
    "two batch layouts are equal without the hardware engine",
)
KEPT, NAMED, CHEAP = (
    "batches that are kept do not change",
    "a truncated file is named",
    "a truncated file costs less than 5 s",
)
_HARDWARE = (0.0, 0.65, 1.0)
"""Shares of the images that the hardware decoder gets."""
_MOST, _MEAN = 8, 0.6
"""Grey levels: what nvJPEG may differ from Pillow at most and on average; nvImageCodec's own tests accept 6."""
_INCIDENT = 5.0
"""Seconds."""
_HELD = 8
"""Batches that are kept while later ones are made."""


class Apart(NamedTuple):
    """How far the pixels of one kind of file are from Pillow's, in grey levels."""

    most: int
    mean: float


def run(findings: Findings, settings: Settings) -> None:
    """Compares DALI with Pillow over kinds of files, hardware shares and batch layouts; then load, then damage."""
    if absent := sources.why_absent("dali"):
        findings.not_run(absent, (BOUND, RUNS, LAYOUTS, KEPT, NAMED, CHEAP))
        return
    device = settings.device
    _compare(findings, list_images(pictures.of_every_kind(settings.folder, settings.count(57, 4))), device)
    _keep(findings, settings, device)
    _damage(findings, settings, device)


def _compare(findings: Findings, listing: Listing, device: str) -> None:
    long, short = len(listing) // len(pictures.KINDS), len(pictures.KINDS)  # batches; both divide the images
    expected = _pixels("torchvision", listing, "cpu", long, None)
    on_gpu = device == "cuda"
    worst = Apart(0, 0.0)
    unequal_runs, unequal_layouts = list[float](), list[float]()
    for share in _HARDWARE if on_gpu else (0.0,):
        options = DaliOptions(hw_decoder_load=share)
        one, again, other = (_pixels("dali", listing, device, batch, options) for batch in (long, long, short))
        unequal_runs += [share] if (one != again).any() else []
        unequal_layouts += [share] if (one != other).any() else []
        for kind, apart in apart_by_kind(one, expected, listing).items():
            findings.number(f"{kind}, hardware share {share:g}", f"at most {apart.most}, mean {apart.mean:.4f}")
            worst = Apart(max(worst.most, apart.most), max(worst.mean, apart.mean))
    most, mean = (_MOST, _MEAN) if on_gpu else (0, 0.0)
    bound = f"bound: {most} at most, mean {mean:g}" if on_gpu else "bound on a CPU: equal bytes"
    held = worst.most <= most and worst.mean <= mean
    findings.check(BOUND, held, f"{len(listing)} files: at most {worst.most}, mean {worst.mean:.4f}; {bound}")
    findings.check(RUNS, not unequal_runs, f"unequal at hardware shares {unequal_runs}")
    findings.check(
        LAYOUTS, 0.0 not in unequal_layouts, f"batches of {long} and {short} unequal at shares {unequal_layouts}"
    )


def _pixels(name: str, listing: Listing, device: str, batch: int, options: DaliOptions | None) -> NDArray[np.uint8]:
    """Returns all pictures [n, side, side, 3] in the listing's order, as training decodes them."""
    whole = TrainingViews(size=pictures.SIDE, weak=1, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=False)
    steps = len(listing) // batch
    with closing(sources.training(name, listing, device, batch, steps, whole, options)) as source:
        taken = [(views.index.cpu(), views.pixels[0].cpu()) for views in source]
    index, pixels = (torch.cat(part) for part in zip(*taken, strict=True))
    return pixels[index.argsort()].numpy()


def apart_by_kind(found: NDArray[np.uint8], expected: NDArray[np.uint8], listing: Listing) -> dict[str, Apart]:
    """Returns class → how far its images [n, h, w, 3] are apart."""
    apart = np.abs(found.astype(np.int16) - expected)
    return {
        name: Apart(int(apart[listing.labels == label].max()), float(apart[listing.labels == label].mean()))
        for label, name in enumerate(listing.classes)
    }


def _keep(findings: Findings, settings: Settings, device: str) -> None:
    """Keeps batches while the device computes and later ones are made, then looks at them again."""
    batch, steps = settings.count(50, 8), settings.count(20, 3)
    epochs, size = settings.count(10, 2), settings.count(224, 64)
    listing = list_images(pictures.corpus(settings.folder, batch * steps))
    views = TrainingViews(size=size, weak=2, strong=2)
    kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=_HELD)
    changed = taken = 0
    load = torch.randn(settings.count(4096, 64), settings.count(4096, 64), device=device)
    with closing(sources.training("dali", listing, device, batch, steps, views)) as source:
        for _ in range(epochs):
            for found in source:
                if len(kept) == _HELD:
                    changed += _differs(*kept.popleft())
                for _ in range(8):  # keeps the device busy, so that nothing is done early by luck
                    load = load @ load / load.norm()
                kept.append((found.pixels, found.pixels.clone()))
                taken += 1
    changed += sum(_differs(*pair) for pair in kept)
    findings.check(KEPT, changed == 0, f"{changed} of {taken} batches of {batch} changed, {device}")


def _differs(pixels: Tensor, copied: Tensor) -> bool:
    return not torch.equal(pixels, copied)


def _damage(findings: Findings, settings: Settings, device: str) -> None:
    """Trains over one truncated file: it is to be named, and no batch may take long for it."""
    each = settings.count(57, 4)
    listing = list_images(pictures.of_every_kind(settings.folder, each, truncated=1), on_bad="keep")
    batch = settings.count(38, 7)
    bad_files = BadFiles(listing, 0.5)
    views, steps = TrainingViews(size=64, weak=2, strong=2), len(listing) // batch
    longest, before = 0.0, time.monotonic()
    with closing(sources.training("dali", listing, device, batch, steps, views, bad_files=bad_files)) as source:
        for number, _ in enumerate(_twice(source)):
            now = time.monotonic()
            longest = max(longest, now - before if number else 0.0)  # the first batch starts DALI
            before = now
    named = bad_files.news()
    expected = str(listing.path(0))
    findings.check(NAMED, len(named) == 1 and named[0].startswith(expected), "; ".join(named) or "no file was named")
    findings.check(CHEAP, longest < _INCIDENT, f"longest time between two batches {longest:.2f} s, {device}")


def _twice(source: Source) -> Iterator[Views]:
    """Yields two epochs' batches: the first one may leave the file out, as the last of the order."""
    for _ in range(2):
        yield from source
