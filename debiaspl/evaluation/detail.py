"""An evaluation in detail: per class, top-5, calibration, head, middle and tail, and which class is taken for which."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from debiaspl.evaluation.accuracy import Accuracy, accuracy_of
from debiaspl.evaluation.guesses import Guesses
from pipelines.files import replacing, write_csv
from pipelines.names import readable

BINS = 15
"""Of confidence, in the calibration error."""
_FEW = 30
"""Up to so many classes are named along a picture of the confusion matrix."""


class Detail(NamedTuple):
    """Holds what came out of one evaluation of one network."""

    accuracy: Accuracy
    top5: float  # percentage of images whose class is among the five likeliest
    calibration: float  # expected calibration error, percent
    confusion: NDArray[np.int64]  # [c, c] images by true class and by the class they were taken for

    @property
    def images(self) -> NDArray[np.int64]:
        """Images of each class, [c]."""
        return self.confusion.sum(1)

    @property
    def right(self) -> NDArray[np.int64]:
        """Correctly classified images of each class, [c]."""
        return self.confusion.diagonal()

    @property
    def shares(self) -> NDArray[np.float64]:
        """Returns the confusion matrix with each row as shares of its class, [c, c] in percent."""
        return 100 * self.confusion / np.maximum(self.confusion.sum(1, keepdims=True), 1)

    def mistaken_for(self, label: int) -> int | None:
        """Returns the class that images of ``label`` are most often taken for, wrongly; None where they never are."""
        others = self.confusion[label].copy()
        others[label] = 0
        return int(others.argmax()) if others.any() else None


def detail(guesses: Guesses, truth: NDArray[np.int64], classes: int) -> Detail:
    """Returns the detail of guesses for images whose true classes [N] are ``truth``; at least one was seen."""
    true, labels, sure = truth[guesses.seen], guesses.label[guesses.seen], guesses.confidence[guesses.seen, 0]
    confusion = np.bincount(true * classes + labels[:, 0], minlength=classes**2).reshape(classes, classes)
    counts = torch.from_numpy(np.stack([confusion.sum(1), confusion.diagonal()]))
    return Detail(
        accuracy_of(counts),
        100 * float((labels == true[:, None]).any(1).mean()),
        100 * calibration_error(sure, labels[:, 0] == true),
        confusion,
    )


def calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Returns the expected calibration error: over equal bins of confidence, |accuracy - mean confidence|.

    Each bin weighs as much as it has images (Guo et al. 2017, arXiv 1706.04599).
    """
    bin_of = np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap = np.bincount(bin_of, right.astype(np.float64) - confidence, BINS)  # sums, so that empty bins are 0
    return float(np.abs(gap).sum() / len(right))


def thirds(training: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Returns the classes with most, medium and fewest training images, by name; empty where all have as many."""
    if len(training) < 3 or (training == training[0]).all():
        return {}
    order = np.argsort(-training, kind="stable")
    return dict(zip(("head", "middle", "tail"), np.array_split(order, 3), strict=True))


def balanced_over(result: Detail, labels: NDArray[np.int64]) -> float | None:
    """Returns the balanced accuracy over some classes, in percent; None where none of them has an image."""
    images, right = result.images[labels], result.right[labels]
    there = images > 0
    return 100 * float((right[there] / images[there]).mean()) if there.any() else None


def per_class(result: Detail, classes: Sequence[str]) -> list[list[str]]:
    """Returns a row per class with images: name, images, right, percentage, and what it is most often taken for."""
    rows = []
    for label in np.flatnonzero(result.images).tolist():
        images, right, other = int(result.images[label]), int(result.right[label]), result.mistaken_for(label)
        taken = "" if other is None else f"{classes[other]} ({result.confusion[label, other]})"
        rows.append([classes[label], f"{images}", f"{right}", f"{100 * right / images:.1f}", taken])
    return rows


PER_CLASS = ("class", "images", "right", "right, %", "most often taken for")
"""The header of ``per_class``."""


def worst(rows: list[list[str]], most: int) -> list[list[str]]:
    """Returns the rows of ``per_class`` as they are; of more than ``most``, those with the lowest accuracy."""
    return sorted(rows, key=lambda row: float(row[3]))[:most] if len(rows) > most else rows


def write_confusion(path: Path, result: Detail, classes: Sequence[str]) -> None:
    """Writes the confusion matrix: a row per true class, a column per class that it was taken for."""
    rows = [[name, *map(str, row)] for name, row in zip(classes, result.confusion.tolist(), strict=True)]
    write_csv(path, ["true class", *classes], rows)


def draw_confusion(path: Path, result: Detail, classes: Sequence[str]) -> None:
    """Draws the confusion matrix, each row as shares of its class, as a PNG."""
    from matplotlib.figure import Figure  # slow to import: only who draws waits for it

    side = min(12.0, 4 + 0.25 * len(classes))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(result.shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(shown, ax=axes, label="share of the class, %", shrink=0.7)
    if len(classes) <= _FEW:
        names = [readable(name, "mathtext") for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=90)
        axes.set_yticks(range(len(classes)), names)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    with replacing(path) as building:
        figure.savefig(building, dpi=120, format="png")
