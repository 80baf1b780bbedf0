"""The picture of a comparison: accuracy over epochs, means with a dot for each seed, pseudo-labels of each method."""

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from debiaspl.comparison.results import Result
from pipelines.names import readable

COLOURS = ("#7f7f7f", "#dd8452", "#55a868", "#4c72b0", "#8172b3", "#c44e52")
_MOST_NAMES = 30
Results = Mapping[str, Sequence[Result]]
"""Method → its result with each seed, in the order of the seeds."""


def draw(results: Results, metric: str, classes: Sequence[str], truth: NDArray[np.float64] | None) -> bytes:
    """Returns a PNG. ``truth`` [c], where known, is the true number of unlabeled images per class of the first seed."""
    from matplotlib.figure import Figure  # slow to import

    labeled = {name: each[0].pseudo_labels for name, each in results.items()}
    shown = {name: counts for name, counts in labeled.items() if counts is not None}
    figure: Any = Figure(figsize=(11, 8 if shown else 4), layout="constrained")
    upper: Any = figure
    lower: Any = None
    if shown:
        upper, lower = figure.subfigures(2, 1)
    left, right = upper.subplots(1, 2, width_ratios=(2, 1))
    colours = dict(zip(results, COLOURS * len(results), strict=False))
    _curves(left, results, colours, metric)
    _means(right, results, colours)
    if lower is not None:
        panels = lower.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, (name, counts) in zip(panels, shown.items(), strict=True):
            _pseudo_labels(axes, name, counts[1, 1], classes, truth)
        panels[0].set_ylabel("share of the pseudo-labels\nabove the threshold, %")
        lower.suptitle("Pseudo-labels of the last epoch, first seed; black: true shares" if truth is not None else
                       "Pseudo-labels of the last epoch, first seed", x=0.01, ha="left", fontsize=10)  # fmt: skip
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _curves(axes: Any, results: Results, colours: Mapping[str, str], metric: str) -> None:
    """Draws each seed's curve thin and the mean thick; a method without epochs is a dashed line."""
    for name, each in results.items():
        curves = [result.curve for result in each if result.curve]
        if not curves:
            axes.axhline(statistics.mean(r.value for r in each), color=colours[name], ls="--", label=name)
            continue
        for curve in curves:
            axes.plot(range(1, len(curve) + 1), curve, color=colours[name], alpha=0.3, lw=0.8)
        mean = [statistics.mean(at) for at in zip(*curves, strict=False)]
        axes.plot(
            range(1, len(mean) + 1), mean, "." if len(mean) == 1 else "-", color=colours[name], lw=1.8, label=name
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{_spoken(metric)}, %")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _means(axes: Any, results: Results, colours: Mapping[str, str]) -> None:
    for row, (name, each) in enumerate(results.items()):
        values = [result.value for result in each]
        axes.barh(row, statistics.mean(values), color=colours[name], height=0.6)
        axes.plot(values, [row] * len(values), "o", color="black", markersize=4)
    lowest = min(result.value for each in results.values() for result in each)
    axes.set_xlim(max(0.0, 10 * (lowest // 10) - 10), 100)
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set_xlabel("%; dots: seeds")
    axes.spines[["top", "right"]].set_visible(False)


def _pseudo_labels(
    axes: Any, name: str, counts: NDArray[np.float64], classes: Sequence[str], truth: NDArray[np.float64] | None
) -> None:
    """Draws shares per class, most frequent first."""
    order = np.argsort(-(counts if truth is None else truth), kind="stable")
    at = np.arange(len(counts))
    axes.bar(at, 100 * counts[order] / max(1.0, counts.sum()), color="#4c72b0")
    if truth is not None:
        axes.step(at, 100 * truth[order] / truth.sum(), where="mid", color="black")
    if len(counts) <= _MOST_NAMES:
        axes.set_xticks(at, [readable(classes[c], "mathtext") for c in order], rotation=60, ha="right", fontsize=7)
    if not counts.any():
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="#7f7f7f")
    axes.set_title(name, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _spoken(metric: str) -> str:
    network, _, measure = metric.partition("_")
    return f"{measure.replace('top1', 'top-1')} accuracy of the {network}"
