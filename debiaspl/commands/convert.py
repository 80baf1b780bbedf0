"""Converts an ImageFolder into FFCV's .beton files: ROOT/train and ROOT/val become ROOT/ffcv/{train,val}.beton."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from debiaspl import startup
from pipelines import console
from pipelines.beton.encoding import Encoding
from pipelines.beton.warm import warm
from pipelines.samples import pillow_warnings
from pipelines.samples.image_header import PIXELS_PER_BYTE
from pipelines.samples.reading import Alpha, Exif

_DESCRIPTION = """\
Converts an ImageFolder into FFCV's .beton files: ROOT/train and ROOT/val become ROOT/ffcv/{train,val}.beton.

    debiaspl convert --data dataset/imagenet

Fields: ``image`` (RGBImageField), ``label`` and ``index`` (IntField; the place in the sorted listing of the split).
Rows are in the order of the listing; subsets are chosen by index when training.

A JPEG (RGB or grey) is stored as it is, byte for byte: no second compression, so the ffcv pipeline sees the pixels
that the others see. Any other image that Pillow reads (a PNG named .JPEG, a CMYK JPEG) is stored as the RGB pixels of
Pillow's convert("RGB"): exact, but large. A file that Pillow does not read is left out; its index stays free. Images
that --max-resolution shrinks (Pillow's LANCZOS) are encoded as JPEG of --quality. --mode raw stores all pixels, and
--mode proportion those of a share of the images, chosen by index.

--mode planes stores what a JPEG's decoder has before it upsamples chroma and converts colours: 2.5 to 3 times the
bytes, from which the ffcv pipeline makes the same pixels in a fifth of the time or less. An image whose planes do not
give Pillow's pixels is stored as without it. ``image`` is then a BytesField, beside ``kind``, ``width`` and ``height``.

--alpha and --exif must be those of the training run (science.alpha, science.exif; recipe own: white and turn). A JPEG
that is turned is stored as pixels.

Beside each .beton: .json (parameters, versions, counts), .files.csv (each file with a note: its status and the note)
and .records.npy (digests, for --verify). The same input gives the same bytes with any number of workers, after any
number of kills and --resume, and in any number of shards after --merge.

--flat: the folders hold images without classes, at any depth, for engine.unlabeled (--split unlabeled --flat).

On several machines: --shard 1/4 … --shard 4/4, copy the parts to one folder ROOT/ffcv, then --merge.
"""


@console.tells_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the converter; returns the exit status: 0, 2 after a message about what to mend, 130 when interrupted."""
    options = _parsed(argv)
    try:
        with pillow_warnings.counted():
            _run(options)
    except KeyboardInterrupt:
        console.say("Interrupted. What is on the disk already is kept: go on with --resume.", error=True)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.warm:
        return warm(options.warm)
    # Slow to import: --help and --warm do not wait for them.
    from pipelines.beton.convert import convert, scan
    from pipelines.beton.merge import merge
    from pipelines.beton.shards import indices_of, part_path
    from pipelines.beton.verify import verify

    betons = {split: options.data / "ffcv" / f"{split}.beton" for split in options.split}
    if options.merge:
        for beton in betons.values():
            merge(beton, options.resume)
        return None
    # List all splits first: a missing folder is reported now, not after hours of work on the first.
    listings = {split: scan(options.data / split, labeled=not options.flat) for split in options.split}
    for split, listing in listings.items():
        if options.verify:
            verify(listing, part_path(betons[split], options.shard), options.workers)
            continue
        convert(
            listing,
            part_path(betons[split], options.shard),
            _encoding(options),
            options.workers,
            indices=indices_of(listing, options.subset, options.shard),
            shard=options.shard,
            resume=options.resume,
            strict=options.strict,
        )
    return None


def _encoding(options: argparse.Namespace) -> Encoding:
    return Encoding(
        options.max_resolution,
        options.quality,
        options.mode,
        options.raw_share,
        options.check or ("decode" if options.mode == "planes" else "header"),
        options.pixels_per_byte,
        options.alpha,
        options.exif,
    )


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("convert", "python tools/convert_imagenet_to_ffcv.py"),
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--data", type=Path, metavar="ROOT", help="folder with train/ and val/")
    parser.add_argument("--split", nargs="+", default=["train", "val"], help="folders below ROOT (default: train val)")
    parser.add_argument("--flat", action="store_true", help="the folders hold unlabeled images, at any depth")
    parser.add_argument("--subset", type=Path, metavar="CSV", help="only the samples of its column Index; one --split")
    parser.add_argument("--shard", type=_shard, metavar="I/N", help="only the I-th of N parts, I from 1")
    parser.add_argument("--max-resolution", type=_positive, metavar="N", help="limit the longer side to N pixels")
    parser.add_argument("--quality", type=int, default=90, choices=range(1, 101), metavar="1..100", help="JPEG (90)")
    parser.add_argument("--mode", choices=("jpeg", "raw", "proportion", "planes"), default="jpeg", help="see above")
    parser.add_argument("--raw-share", type=_share, default=0.5, metavar="P", help="for --mode proportion (0.5)")
    parser.add_argument(
        "--check",
        choices=("header", "decode"),
        help="of JPEGs that are kept: header and end marker (default), or all pixels, which finds damage within too; "
        "of planes: nothing, or that their pixels are those that Pillow decodes (default)",
    )
    parser.add_argument(
        "--pixels-per-byte",
        type=_at_least_one,
        default=PIXELS_PER_BYTE,
        metavar="N",
        help="leave out JPEGs that claim more, as engine.pixels_per_byte does when training (1000)",
    )
    parser.add_argument(
        "--alpha", choices=get_args(Alpha), default="drop", help="what shows through transparency (drop)"
    )
    parser.add_argument("--exif", choices=get_args(Exif), default="ignore", help="EXIF's rotation (ignore); see above")
    parser.add_argument("--strict", action="store_true", help="fail at a file that cannot be stored, and leave nothing")
    parser.add_argument("--workers", type=_positive, default=cores, metavar="N", help=f"threads (here: {cores})")
    parser.add_argument("--resume", action="store_true", help="go on after a kill; what is complete is not done again")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--merge", action="store_true", help="join the parts of --shard into one file; needs no images")
    other.add_argument("--verify", action="store_true", help="compare finished files with their images, byte by byte")
    other.add_argument("--warm", type=Path, metavar="FILE", help="read FILE once, so that it is in the page cache")
    return parser


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = build_parser()
    options = parser.parse_args(argv)
    options.shard = options.shard or ""
    if options.data is None and options.warm is None:
        parser.error("--data ROOT is needed")
    if options.subset and len(options.split) != 1:
        parser.error("--subset belongs to one split: name it with --split")
    return options


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return number


def _at_least_one(text: str) -> float:
    if not (number := float(text)) >= 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return number


def _share(text: str) -> float:
    if not 0 <= (share := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must lie within 0 and 1 (got {text})")
    return share


def _shard(text: str) -> str:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N (got {text})")
    return f"{int(part)}/{int(parts)}"
