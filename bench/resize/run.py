"""Crops per second of every way to resize, and how far each is from Pillow, which is the definition; one thread each.

The crops are those of the training views, cut from ImageNet-like images that are decoded already. The fastest way that
gives Pillow's bytes is to be ours; exit status 1 where it is not exact. A table of the RandAugment operations follows.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bench.arguments import add_corpus, add_out, add_quick, add_rounds, positive, quicken
from pipelines import console

if TYPE_CHECKING:
    from bench.measure import Measurement
    from bench.resize.compare import FromPillow

CROP_SIZES = (224, 96, 32)
"""ImageNet's, a small network's, CIFAR's; the first one's table is the report's main one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``python -m bench resize``."""
    parser.add_argument("--images", type=positive, default=96, metavar="N", help="of the corpus")
    parser.add_argument("--crops", type=positive, default=2, metavar="N", help="of each image")
    add_rounds(parser, 11)
    parser.add_argument("--pillow-simd", type=Path, metavar="FOLDER", help="pip install --target put it there")
    add_quick(parser)
    add_out(parser)
    add_corpus(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the report, prints the tables. Returns 1 where our own bytes are not Pillow's."""
    from bench import corpus, environment
    from bench.report import publish
    from bench.resize import account, operations
    from bench.resize.compare import compare, pictures_of, training_crops
    from bench.resize.kernels import OURS, PILLOW, one_thread, ways
    from pipelines.augment import pillow
    from pipelines.samples.listing import list_images

    quicken(arguments, rounds=2, images=24)
    made = environment.record()  # first, so that the load it records is that of others
    listing = list_images(corpus.build(arguments.corpus, arguments.images) / "train")
    images = [pillow.decode(listing.path(index)) for index in range(len(listing))]
    measured: dict[int, Measurement] = {}
    differences: dict[int, dict[str, FromPillow]] = {}
    with one_thread():
        for size in CROP_SIZES:
            crops = training_crops(listing, images, size, arguments.crops)
            measured[size], differences[size] = compare(crops, size, arguments.rounds, arguments.pillow_simd)
        views = list(pictures_of(ways(crops, CROP_SIZES[0])[PILLOW], len(crops)))
        operation_by_operation = operations.section(views, arguments.rounds)
    first, *others = CROP_SIZES
    sections = [
        account.bars_section(measured, differences),
        *(account.size_section(size, measured[size], differences[size]) for size in others),
        operation_by_operation,
    ]
    written = account.report(arguments, first, measured[first], differences[first], made.ended(), sections)
    publish(written, arguments.out, quick=arguments.quick)
    if broken := [str(size) for size in CROP_SIZES if not differences[size][OURS].exact]:
        console.say(f"BROKEN: our crops of {', '.join(broken)} pixels are not Pillow's.", error=True)
    return 1 if broken else 0
