"""Writes scikit-learn's 1,797 scanned handwritten digits as a small data set in the ImageNet layout.

train/<class>/, val/<class>/ and indexes/{labeled,unlabeled}.csv: a few labels per class, the rest of train unlabeled
and long-tailed, a balanced val. The same seed gives the same bytes.

    debiaspl demo-data --out dataset/demo
"""

import argparse
import csv
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from debiaspl import startup
from pipelines import console, keyed_random
from pipelines.errors import DataError
from pipelines.names import readable

_DESCRIPTION = "Writes scikit-learn's 1,797 scanned handwritten digits as a small data set in the ImageNet layout."
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MARKER = "demo.txt"
"""Tells a data set that this tool made, and may replace, from any other folder."""


def class_sizes(available: NDArray[np.int64], imbalance: float) -> NDArray[np.int64]:
    """Returns the number of unlabeled images of each class, in falling order.

    They fall exponentially from the smallest supply to 1 / ``imbalance`` of it.
    """
    head = available.min()
    ranks = np.arange(len(available)) / (len(available) - 1)
    return np.maximum(1, np.rint(head * imbalance**-ranks)).astype(np.int64)


def write_demo_data(
    out: Path, *, labels_per_class: int, imbalance: float, val_per_class: int, side: int, seed: int
) -> None:
    """Makes the data set in ``out``, all of it or nothing; it replaces an earlier demo, no other folder."""
    fits = 1 <= labels_per_class <= 20 and 1 <= val_per_class <= 100 and 8 <= side <= 256
    if not (fits and 1 <= imbalance < float("inf") and 0 <= seed <= keyed_random.LARGEST_SEED):
        raise DataError(
            "Wanted: 1–20 labels and 1–100 validation images per class, imbalance ≥ 1, side 8–256, seed 0 to 2⁶⁴ − 1 "
            f"(got {labels_per_class}, {val_per_class}, {imbalance}, {side}, {seed})."
        )
    try:
        if out.exists() and not (out / _MARKER).is_file():
            raise DataError(
                f"{readable(out)} exists and is not a demo data set: not replacing it. Name another folder with --out"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            _build(building, labels_per_class, imbalance, val_per_class, side, seed)
            (building / _MARKER).write_text(
                f"Made by tools/make_demo_data.py: {labels_per_class=} {imbalance=} {val_per_class=} {side=} {seed=}\n",
                encoding="utf-8",
            )
            building.chmod(0o755)
            if out.exists():
                shutil.rmtree(out)
            building.rename(out)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"Cannot write to {readable(out)}: {error.strerror or error}. Name another folder with --out"
        ) from error


def _build(root: Path, labels_per_class: int, imbalance: float, val_per_class: int, side: int, seed: int) -> None:
    from sklearn.datasets import load_digits  # slow to import: --help need not wait for it

    digits = load_digits()
    pixels: NDArray[np.float64] = digits.images
    members = [np.flatnonzero(digits.target == label) for label in range(len(NAMES))]
    members = [m[np.argsort(keyed_random.bits(seed, label, m), kind="stable")] for label, m in enumerate(members)]
    supply = np.array([len(m) for m in members]) - val_per_class - labels_per_class
    # Which digit is common is drawn too, so that frequency does not follow the digit's value.
    sizes = class_sizes(supply, imbalance)[np.argsort(keyed_random.bits(seed, 10, np.arange(len(NAMES))))]

    labeled_names: set[str] = set()
    for label, (name, chosen) in enumerate(zip(NAMES, members, strict=True)):
        val, rest = np.split(chosen, [val_per_class])
        train = rest[: labels_per_class + sizes[label]]
        for part, digit_numbers in (("val", val), ("train", train)):
            folder = root / part / f"{label}_{name}"
            folder.mkdir(parents=True)
            for number in digit_numbers:
                _write_jpeg(folder / f"{number:04}.jpg", pixels[number], side)
        labeled_names.update(f"{label}_{name}/{number:04}.jpg" for number in train[:labels_per_class])

    # The listing's order is the sorted order of class folders and of file names in them.
    listing = sorted(path.relative_to(root / "train").as_posix() for path in (root / "train").rglob("*.jpg"))
    (root / "indexes").mkdir()
    for file, wanted in (("labeled.csv", True), ("unlabeled.csv", False)):
        with (root / "indexes" / file).open("w", newline="", encoding="utf-8") as handle:
            rows = csv.writer(handle)
            rows.writerow(["Index"])
            rows.writerows([index] for index, name in enumerate(listing) if (name in labeled_names) == wanted)


def _write_jpeg(path: Path, digit: NDArray[np.float64], side: int) -> None:
    """Writes an 8 × 8 scan with grey levels 0..16 as a ``side`` × ``side`` RGB JPEG."""
    grey = Image.fromarray(np.rint(digit * (255 / 16)).astype(np.uint8))
    grey.resize((side, side), Image.Resampling.BICUBIC).convert("RGB").save(path, quality=95)


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog=startup.prog("demo-data", "python tools/make_demo_data.py"),
        description=_DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("dataset/demo"), help="folder to make")
    parser.add_argument("--labels-per-class", type=int, default=2, help="labeled images of each class")
    parser.add_argument("--imbalance", type=float, default=20.0, help="most over least common unlabeled class")
    parser.add_argument("--val-per-class", type=int, default=50, help="validation images of each class")
    parser.add_argument("--side", type=int, default=32, help="height and width of the images, pixels")
    parser.add_argument("--seed", type=int, default=0, help="which images go where")
    return parser


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the data set; returns the exit status: 0, or 2 after a message about what to mend."""
    a = build_parser().parse_args(arguments)
    write_demo_data(
        a.out,
        labels_per_class=a.labels_per_class,
        imbalance=a.imbalance,
        val_per_class=a.val_per_class,
        side=a.side,
        seed=a.seed,
    )
    counts = {part: len(list((a.out / part).rglob("*.jpg"))) for part in ("train", "val")}
    labels = f"{a.labels_per_class} labels per class"
    console.say(f"{readable(a.out)}: {counts['train']} training images ({labels}), {counts['val']} in val")
    return 0
