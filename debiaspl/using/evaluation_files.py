"""The files of an evaluation: its tables, confusion matrices, and the images that were taken for another class."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from debiaspl.evaluation.detail import PER_CLASS, draw_confusion, per_class, write_confusion
from debiaspl.report.contact_sheet import mistakes
from debiaspl.report.page import Heading, Section, write_page
from debiaspl.using.trained import Trained
from debiaspl.using.validation import Evaluated
from pipelines import console
from pipelines.errors import UserError
from pipelines.files import write_csv
from pipelines.names import readable


def write(options: argparse.Namespace, trained: Trained, results: Sequence[Evaluated], model: str) -> None:
    """Writes what --out and --mistakes ask for, of one network. Raises UserError where that cannot be written."""
    shown = [each for each in results if each.model == model]
    try:
        if options.out is not None:
            _write_tables(options.out, results, shown, trained.classes)
            console.say(f"tables and confusion matrices → {readable(options.out)}")
        if options.mistakes is not None:
            count = _write_mistakes(options.mistakes, shown, trained.classes)
            sheet = _sheet_of(options.mistakes)
            console.say(f"{count} images taken for others → {readable(options.mistakes)}, {readable(sheet)}")
    except OSError as error:
        what = error.strerror or error
        raise UserError(f"The evaluation cannot be written: {what} ({error.filename}). Name another place.") from error


def accuracy_rows(results: Sequence[Evaluated], several: bool, knn: bool) -> list[list[str]]:
    """Returns a row per folder and network; ``several``: the folder comes first, with how many classes it has."""
    rows = []
    for each in results:
        found = each.detail
        values = [found.accuracy.top1, found.top5, found.accuracy.balanced, found.calibration]
        values += [each.knn or 0.0] if knn else []
        folder = [each.validation.name, f"{np.count_nonzero(found.images)}"] if several else []
        rows.append([*folder, each.model, *(f"{value:.2f}" for value in values), f"{found.images.sum()}"])
    return rows


def _write_tables(
    folder: Path, results: Sequence[Evaluated], shown: Sequence[Evaluated], classes: Sequence[str]
) -> None:
    """Writes the accuracies of all, and a folder of its own for each evaluated one where there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    header = ["folder", "classes", "model", "top1", "top5", "balanced", "calibration_error", "images"]
    write_csv(folder / "accuracy.csv", header, accuracy_rows(results, several=True, knn=False))
    for number, each in enumerate(shown, start=1):
        own = folder if len(shown) == 1 else folder / f"{number}-{readable(each.validation.name)}"
        own.mkdir(exist_ok=True)
        write_csv(own / "per_class.csv", PER_CLASS, per_class(each.detail, classes))
        write_confusion(own / "confusion.csv", each.detail, classes)
        draw_confusion(own / "confusion.png", each.detail, classes)


def _write_mistakes(path: Path, shown: Sequence[Evaluated], classes: Sequence[str]) -> int:
    """Writes the wrongly classified images, the surest first, and their contact sheet; returns how many there are."""
    table: list[list[str]] = []
    sections: list[Section] = []
    for each in shown:
        listing, truth = each.validation.listing, each.validation.truth
        label, sure = each.guesses.label[:, 0], each.guesses.confidence[:, 0]
        ranked = each.guesses.mistakes(truth)
        table += [
            [each.validation.name, listing.paths[row], classes[truth[row]], classes[label[row]], f"{sure[row]:.6f}"]
            for row in ranked
        ]
        sections += [Heading(each.validation.name)] if len(shown) > 1 else []
        sections += mistakes(listing, truth, label, sure, ranked, classes)
    write_csv(path, ["folder", "file", "class", "taken_for", "confidence"], table)
    write_page(_sheet_of(path), f"{len(table)} images taken for others", sections)
    return len(table)


def _sheet_of(path: Path) -> Path:
    """Returns where the contact sheet of a list of mistakes is written: beside it."""
    return path.with_name(f"{path.name.removesuffix('.csv')}.html")
