"""Crops per second of every way to resize, and how far each is from Pillow, which is the definition; one thread each.

The crops are those of the training views, cut from ImageNet-like images that are decoded already. The fastest way that
gives Pillow's bytes is to be ours; exit status 1 where it is not exact. A table of the RandAugment operations follows.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from bench import bars, corpus, environment, report
from bench.measure import Contestant, Measurement, Series, measure
from bench.resize import kernels as resize_kernels
from bench.resize.kernels import OURS, PILLOW, SIMD, Crop, Way, ways
from bench.yardsticks.pillow_simd import PillowSimd, version
from pipelines.augment import ops, pillow
from pipelines.augment.operation_tables import operation_tables
from pipelines.augment.ops import Op
from pipelines.augment.policy import plan
from pipelines.augment.randaugment import augment
from pipelines.errors import UserError
from pipelines.order import Draws, Stream
from pipelines.samples.listing import Listing, list_images
from pipelines.views import TrainingViews

SIZES = (224, 96, 32)
"""ImageNet's, a small network's, CIFAR's; the first one's table is the report's main one."""
_WARMUP = 1


class Difference(NamedTuple):
    """From Pillow, in grey levels, over all crops."""

    largest: int
    mean: float

    @property
    def exact(self) -> bool:
        return self.largest == 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench resize``."""
    parser.add_argument("--images", type=int, default=96, metavar="N", help="of the corpus")
    parser.add_argument("--crops", type=int, default=2, metavar="N", help="of each image")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="measured rounds, after one warm-up")
    parser.add_argument("--pillow-simd", type=Path, metavar="FOLDER", help="pip install --target put it there")
    parser.add_argument("--out", type=Path, default=report.FOLDER, metavar="FOLDER", help="for the report")
    parser.add_argument("--corpus", type=Path, default=corpus.default_folder(), metavar="FOLDER", help="for the images")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print the tables. Returns 1 where our own bytes are not Pillow's."""
    for name in ("images", "crops", "rounds"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} must be at least 1 (got {getattr(arguments, name)}).")
    made = environment.record()  # first, so that the load it records is that of others
    listing = list_images(corpus.build(arguments.corpus, arguments.images) / "train")
    images = [pillow.decode(listing.path(index)) for index in range(len(listing))]
    measured: dict[int, Measurement] = {}
    differences: dict[int, dict[str, Difference]] = {}
    with resize_kernels.one_thread():
        for size in SIZES:
            crops = _crops(listing, images, size, arguments.crops)
            measured[size], differences[size] = _compare(crops, size, arguments)
        views = list(_pictures(ways(crops, SIZES[0])[PILLOW], len(crops)))
        operations = _operations(views, arguments.rounds)
    sections = [_bars(measured, differences)]
    sections += [_of_size(size, measured[size], differences[size]) for size in SIZES[1:]]
    written = _report(arguments, measured[SIZES[0]], differences[SIZES[0]], made.ended(), [*sections, operations])
    report.show(written, console := Console())
    for path in report.write(written, arguments.out):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    if broken := [str(size) for size in SIZES if not differences[size][OURS].exact]:
        print(f"BROKEN: our crops of {', '.join(broken)} pixels are not Pillow's.", file=sys.stderr)
    return 1 if broken else 0


def _crops(listing: Listing, images: list[Image.Image], size: int, each: int) -> list[Crop]:
    """``each`` random resized crops of every image: the weak views of one epoch."""
    draws = Draws(listing.indices, np.zeros(len(images), np.int64), seed=0, stream=Stream.UNLABELED)
    todo = plan(TrainingViews(size=size, weak=each), draws, listing.heights, listing.widths)
    pixels = [np.array(image) for image in images]
    return [
        Crop(pixels[at], images[at], *todo.crop[view, at].tolist()) for at in range(len(images)) for view in range(each)
    ]


def _compare(crops: list[Crop], size: int, arguments: argparse.Namespace) -> tuple[Measurement, dict[str, Difference]]:
    """Time every way on ``crops``, and compare its pictures with Pillow's."""
    found = ways(crops, size)
    contestants = [Contestant(name, partial(_every, way, len(crops))) for name, way in found.items()]
    pictures: dict[str, Callable[[], NDArray[np.uint8]]] = {
        name: partial(_pictures, way, len(crops)) for name, way in found.items()
    }
    with ExitStack() as opened:
        if arguments.pillow_simd:
            simd = PillowSimd(arguments.pillow_simd, crops, size)
            opened.callback(simd.close)
            contestants.append(Contestant(SIMD, simd.every))
            pictures[SIMD] = simd.pixels
        wanted = pictures[PILLOW]()
        differences = {name: _difference(wanted, cut()) for name, cut in pictures.items()}
        measured = measure(contestants, unit="crops/s", rounds=arguments.rounds, warmup=_WARMUP)
    return measured, differences


def _pictures(way: Way, count: int) -> NDArray[np.uint8]:
    return np.stack([resize_kernels.pixels(way(number)).copy() for number in range(count)])  # some reuse their memory


def _every(way: Way, count: int) -> int:
    for number in range(count):
        way(number)
    return count


def _difference(wanted: NDArray[np.uint8], found: NDArray[np.uint8]) -> Difference:
    apart = np.abs(found.astype(np.int16) - wanted)
    return Difference(int(apart.max()), float(apart.mean()))


def _operations(views: list[NDArray[np.uint8]], rounds: int) -> report.Section:
    """Microseconds of each RandAugment operation on finished views, ours and Pillow's, levels and signs in turn."""
    levels = [*range(1, ops.LEVELS + 1), *range(-ops.LEVELS, 0)]
    pictures = [Image.fromarray(view) for view in views]
    table = operation_tables(*views[0].shape[:2])
    out, spare = np.empty_like(views[0]), np.empty_like(views[0])

    def ours(op: Op) -> int:
        which, level = np.array([op], np.uint8), np.empty(1, np.int8)
        for number, view in enumerate(views):
            np.copyto(out, view)  # ours works in place, Pillow's makes a picture
            level[0] = levels[number % len(levels)]
            augment(out, which, level, table, spare)
        return len(views)

    def theirs(op: Op) -> int:
        for number, picture in enumerate(pictures):
            pillow.apply(op, levels[number % len(levels)], picture)
        return len(pictures)

    makers = {"ours": ours, "Pillow": theirs}
    contestants = [Contestant(f"{op.name}, {by}", partial(make, op)) for op in Op for by, make in makers.items()]
    measured = measure(contestants, unit="views/s", rounds=rounds, warmup=_WARMUP)
    rows: list[tuple[str, ...]] = [("operation", "ours, µs a view", "Pillow, µs a view", "rate against Pillow")]
    for op in Op:
        mine, its = measured[f"{op.name}, ours"], measured[f"{op.name}, Pillow"]
        rows.append((op.name, _microseconds(mine), _microseconds(its), report.ratio(mine, its, False)))
    note = (
        "One thread, 224 × 224 views, all levels and signs in turn; ours with a copy of the view, because it works in "
        "place. Both give the same bytes (python -m bench parity). Pillow's SolarizeAdd adds with NumPy, and its "
        "Identity does nothing."
    )
    return report.Section("RandAugment, operation by operation", tuple(rows), note, {"measurement": measured})


def _microseconds(series: Series) -> str:
    return f"{1e6 / series.rate.median:.1f}"


def _cells(measured: Measurement, differences: dict[str, Difference]) -> dict[str, dict[str, str]]:
    """Heading → way → cell."""
    return {
        "µs a crop": {series.name: _microseconds(series) for series in measured.series},
        "largest difference": {name: str(each.largest) for name, each in differences.items()},
        "mean": {name: f"{each.mean:.3g}" for name, each in differences.items()},
        "Pillow's bytes": {name: "yes" if each.exact else "no" for name, each in differences.items()},
    }


def _of_size(size: int, measured: Measurement, differences: dict[str, Difference]) -> report.Section:
    columns = _cells(measured, differences)
    rows: list[tuple[str, ...]] = [("", "crops/s", "rate against Pillow", *columns)]
    for series in measured.series:
        rate, name = series.rate, series.name
        shown = f"{rate.median:,.0f} ({rate.low:,.0f}–{rate.high:,.0f})"
        rows.append((name, shown, report.ratio(series, measured[PILLOW], False), *(c[name] for c in columns.values())))
    return report.Section(f"Crops of {size} × {size}", tuple(rows), raw={"measurement": measured})


def _bars(measured: dict[int, Measurement], differences: dict[int, dict[str, Difference]]) -> report.Section:
    """Whether what the pipelines use is the fastest of the ways that give Pillow's bytes."""
    rows: list[tuple[str, ...]] = [("", "ours gives Pillow's bytes", "fastest way that does", "ours is the fastest")]
    for size, of in measured.items():
        exact = [series for series in of.series if differences[size][series.name].exact]
        fastest = max(exact, key=lambda series: series.rate.median).name
        words = bars.verdict(differences[size][OURS].exact), fastest, bars.verdict(fastest == OURS)
        rows.append((f"{size} × {size}", *words))
    return report.Section("Bars", tuple(rows), "The fastest way that gives Pillow's bytes is kept in the pipelines.")


def _report(
    arguments: argparse.Namespace,
    measured: Measurement,
    differences: dict[str, Difference],
    made: environment.Environment,
    sections: list[report.Section],
) -> report.Report:
    images, crops, rounds = arguments.images, arguments.crops, arguments.rounds
    command = f"python -m bench resize --images {images} --crops {crops} --rounds {rounds}"
    settings: dict[str, str | int | float] = {"images": images, "crops of each": crops}
    if arguments.pillow_simd:
        command += f" --pillow-simd {arguments.pillow_simd}"
        settings["Pillow-SIMD"] = version(arguments.pillow_simd)
    return report.Report(
        theme="resize",
        title=f"Crops of {SIZES[0]} × {SIZES[0]} from decoded images, one thread",
        command=command,
        measurement=measured,
        environment=made,
        settings=settings,
        references=(report.Reference("rate against Pillow", PILLOW),),
        facts=_cells(measured, differences),
        not_measured=resize_kernels.not_measured(simd=arguments.pillow_simd is not None),
        sections=tuple(sections),
        notes=(
            "Differences: grey levels from Pillow's crop().resize(BILINEAR), which torchvision's RandomResizedCrop "
            "calls, over all crops and bytes.",
            "Crops: the random resized crops of the training views (area 0.08 to 1 of the image, ratio 3/4 to 4/3).",
            "Pillow's resize(box=…) saves the copy, but filters over pixels outside the box, too.",
            "torch's kernel is the one that torchvision resizes uint8 tensors with.",
            "cv2's INTER_LINEAR reads four pixels whatever the scale: where a crop shrinks, another picture.",
            "torch and cv2 are held to one thread; ours and cv2 write into memory allocated once. Pillow-SIMD, where "
            "it is measured, runs in a process of its own.",
        ),
    )
