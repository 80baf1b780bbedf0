"""A run's report.html: its curves, pseudo-labels, classes, mistakes, views, speed and settings on one page."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from debiaspl.config import Recipe
from debiaspl.evaluation.bias import imbalance
from debiaspl.evaluation.detail import PER_CLASS, Detail, detail, per_class, worst
from debiaspl.evaluation.guesses import Guesses
from debiaspl.overrides import SECTIONS
from debiaspl.records import Record
from debiaspl.report import charts, contact_sheet
from debiaspl.report.page import Figure, Heading, Paragraph, Section, Sheet, Table, thumbnail, write_page
from pipelines.samples.listing import Listing

_WORST_CLASSES, _MISTAKES, _MOST_IN_A_MATRIX = 40, 24, 60
_PANELS: dict[str, dict[str, tuple[str, str]]] = {
    "balanced accuracy, %": {
        "val/student_balanced": ("student", charts.BLUE),
        "val/teacher_balanced": ("teacher", charts.RED),
    },
    "loss": {
        "train/total": ("total", charts.GREY),
        "train/supervised": ("supervised", charts.BLUE),
        "train/unsupervised": ("unsupervised", charts.RED),
    },
    "Gini coefficient of the pseudo-labels": {
        "bias/gini_before": ("before", charts.RED),
        "bias/gini_after": ("after", charts.BLUE),
    },
    "largest over smallest p̂": {"bias/phat_max_over_min": ("p̂ max / min", charts.BLUE)},
    "images per second": {"speed/images_per_s": ("images/s", charts.BLUE)},
    "share of time waiting for images, %": {"speed/waiting_share": ("waiting", charts.RED)},
}
"""Panel → record's name → legend and colour. The last two are about speed."""


class ValidationGuesses(NamedTuple):
    """Holds what one network takes the validation images for."""

    network: str
    listing: Listing
    truth: NDArray[np.int64]  # [N]
    guesses: Guesses


@dataclass(frozen=True)
class Snapshot:
    """Holds what is known of a run after an epoch."""

    recipe: Recipe
    steps_per_epoch: int
    records: Sequence[Record]
    classes: tuple[str, ...]
    counts: NDArray[np.float64]
    """Pseudo-labels of the epoch [2, 2, c], as in debiaspl.step.State."""
    truth: NDArray[np.float64] | None
    """The true number of unlabeled images per class, where it is known."""
    validation: ValidationGuesses
    views: "UInt8[Tensor, 'v n h w 3'] | None"
    """Views of some unlabeled pictures, weak ones first; None before the first step."""


def write_report(path: Path, snapshot: Snapshot) -> None:
    """Writes the page to ``path``. Raises OSError where that cannot be written."""
    step = snapshot.records[-1].step if snapshot.records else 0
    epoch = step // snapshot.steps_per_epoch
    found = snapshot.validation
    result = detail(found.guesses, found.truth, len(snapshot.classes))
    sections: list[Section] = [
        Paragraph(f"After epoch {epoch} of {snapshot.recipe.science.epochs}, {step} steps."),
        *_curves(snapshot),
        *_pseudo_labels(snapshot),
        *_classes(found.network, result, snapshot.classes),
        *_views(snapshot.views),
        *_mistakes(found, snapshot.classes),
        Heading("Settings"),
        Table(["field", "value"], _settings(snapshot.recipe)),
    ]
    write_page(path, f"{snapshot.recipe.name} on {snapshot.recipe.engine.data}", sections)


def _curves(snapshot: Snapshot) -> list[Section]:
    drawn = {panel: _curve(snapshot, panel) for panel in _PANELS}
    return [
        Heading("Curves"),
        *(Figure(drawn[panel], f"{panel} over epochs") for panel in list(_PANELS)[:4]),
        Heading("Speed"),
        Table(["", ""], _speed(snapshot.records)),
        *(Figure(drawn[panel], f"{panel} over epochs") for panel in list(_PANELS)[4:]),
    ]


def _curve(snapshot: Snapshot, panel: str) -> str:
    """Returns the chart of one panel over epochs."""
    drawn: dict[str, charts.Line] = {}
    for name, (label, colour) in _PANELS[panel].items():
        scale = 100 if name == "speed/waiting_share" else 1
        measured = [record for record in snapshot.records if name in record.values]
        points = [(record.step / snapshot.steps_per_epoch, scale * record.values[name]) for record in measured]
        drawn[label] = (colour, points)
    return charts.lines(panel, drawn, "epoch")


def _speed(records: Sequence[Record]) -> list[list[str]]:
    """Returns the last reading, of the whole epoch that it ends."""
    measured = [record.values for record in records if "speed/images_per_s" in record.values]
    if not measured:
        return []
    last = measured[-1]
    return [
        ["images per second, each counted once", f"{last['speed/images_per_s']:,.0f}"],
        ["steps per second", f"{last['speed/steps_per_s']:.3g}"],
        ["waiting for images, share of the time", f"{100 * last['speed/waiting_share']:.1f} %"],
    ]


def _pseudo_labels(snapshot: Snapshot) -> list[Section]:
    truth = snapshot.truth
    drawn: list[Section] = []
    for panel, name in ((0, "All pseudo-labels"), (1, "Pseudo-labels above the threshold")):
        counts = snapshot.counts[:, panel]
        if not counts.any():
            drawn.append(Paragraph(f"{name}: none."))
            continue
        shares = 100 * counts / np.maximum(counts.sum(-1, keepdims=True), 1)
        order = np.argsort(-(shares[0] if truth is None else truth), kind="stable")
        before, after = imbalance(counts[0], truth), imbalance(counts[1], truth)
        of = "uniform" if truth is None else "the truth"
        chart = charts.bars(
            f"share, %; KL from {of}: {before.kl:.3f} before debiasing, {after.kl:.3f} after",
            [snapshot.classes[label] for label in order],
            {"before": (charts.RED, shares[0, order]), "after": (charts.BLUE, shares[1, order])},
            None if truth is None else 100 * truth[order] / truth.sum(),
        )
        drawn.append(Figure(chart, f"{name} per class, before and after debiasing", name))
    return [Heading("Pseudo-labels of the epoch"), *drawn]


def _classes(network: str, result: Detail, classes: Sequence[str]) -> list[Section]:
    rows, note = per_class(result, classes), ""
    if len(rows) > _WORST_CLASSES:
        note = f"The {_WORST_CLASSES} of {len(rows)} with the lowest accuracy."
    accuracy = (
        f"Validation set, {network}: {result.accuracy.top1:.2f} % top-1, {result.accuracy.balanced:.2f} % balanced"
    )
    return [
        Heading("Classes"),
        Paragraph(f"{accuracy}; expected calibration error {result.calibration:.1f} %."),
        Table(PER_CLASS, worst(rows, _WORST_CLASSES), note),
        *_confusion(result, classes),
    ]


def _confusion(result: Detail, classes: Sequence[str]) -> list[Section]:
    """Returns the confusion matrix where it is small enough to be looked at."""
    if len(classes) > _MOST_IN_A_MATRIX:
        return []
    chart = charts.matrix("rows: true class; columns: taken for", classes, result.shares)
    return [Figure(chart, "Confusion matrix, each row as shares of its class")]


def _views(views: "UInt8[Tensor, 'v n h w 3'] | None") -> list[Section]:
    """Returns a sheet per picture with its views as the networks get them."""
    if views is None:
        return []
    weak = len(views) // 2
    names = [f"weak {v + 1}" if v < weak else f"strong {v + 1 - weak}" for v in range(len(views))]
    pictures = [
        thumbnail(Image.fromarray(view.numpy()), f"picture {sample + 1}, {name}")
        for sample in range(views.shape[1])
        for name, view in zip(names, views[:, sample], strict=True)
    ]
    return [Heading("Views as the networks see them"), Sheet(pictures)]


def _mistakes(found: ValidationGuesses, classes: Sequence[str]) -> list[Section]:
    """Returns the wrongly classified images that the network is surest of."""
    label, sure = found.guesses.label[:, 0], found.guesses.confidence[:, 0]
    wrong = found.guesses.mistakes(found.truth)
    rows = wrong[:_MISTAKES]
    if not rows:
        return [Heading("Mistakes"), Paragraph("None on the validation set.")]
    shown = contact_sheet.mistakes(found.listing, found.truth, label, sure, rows, classes)
    return [Heading("Mistakes"), Paragraph(f"The {len(rows)} surest of {len(wrong)}."), *shown]


def _settings(recipe: Recipe) -> list[list[str]]:
    return [
        [f"{section}.{field.name}", str(getattr(getattr(recipe, section), field.name))]
        for section in SECTIONS
        for field in dataclasses.fields(getattr(recipe, section))
    ]
