"""How biased pseudo-labels are: counts per class before and after debiasing, as numbers and as a picture."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from debiaspl.evaluation.truth import true_labels
from pipelines.files import replacing
from pipelines.names import readable
from pipelines.samples.split import Split


class Imbalance(NamedTuple):
    """How uneven a class histogram is; 0 (Gini, KL) where it is as even as can be."""

    gini: float
    kl: float  # from the reference distribution, nats
    missing: int  # classes that no sample was given


def imbalance(counts: NDArray[np.float64], reference: NDArray[np.float64] | None = None) -> Imbalance:
    """Returns the imbalance of ``counts`` [c], its divergence measured from ``reference`` [c] (default: uniform)."""
    total = counts.sum()
    if total == 0:
        return Imbalance(gini=0.0, kl=0.0, missing=len(counts))
    share = counts / total
    prior = np.full(len(counts), 1 / len(counts)) if reference is None else reference / reference.sum()
    ranked = np.sort(share)
    rank = np.arange(1, len(share) + 1)
    gini = float(((2 * rank - len(share) - 1) * ranked).sum() / len(share))
    seen = share > 0
    with np.errstate(divide="ignore"):
        kl = float((share[seen] * np.log(share[seen] / prior[seen])).sum())
    return Imbalance(gini, kl, int((counts == 0).sum()))


def draw_pseudo_labels(
    path: Path,
    counts: NDArray[np.float64],
    classes: tuple[str, ...],
    truth: NDArray[np.float64] | None,
) -> None:
    """Draws pseudo-label shares per class, most frequent first; ``counts`` [2, 2, c] as in debiaspl.step.State.

    ``truth`` [c], where known, is the true number of unlabeled samples per class: the line that bars should meet.
    """
    from matplotlib.figure import Figure  # slow to import: only who draws waits for it

    shares = counts / np.maximum(counts.sum(-1, keepdims=True), 1) * 100
    order = np.argsort(-(shares[0, 0] if truth is None else truth), kind="stable")
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    few = len(classes) <= 30
    for axis, panel, title in zip(
        axes, (0, 1), ("all pseudo-labels", "pseudo-labels above the threshold"), strict=True
    ):
        at = np.arange(len(classes))
        width = 0.4 if few else 0.5
        axis.bar(at - width / 2, shares[0, panel, order], width, label="before debiasing", color="#c44e52")
        axis.bar(at + width / 2, shares[1, panel, order], width, label="after debiasing", color="#4c72b0")
        if truth is not None:
            axis.step(at, truth[order] / truth.sum() * 100, where="mid", color="black", label="true share")
        even = [imbalance(shares[which, panel], truth) for which in (0, 1)]
        axis.set_title(
            f"{title}: KL from {'the truth' if truth is not None else 'uniform'} "
            f"{even[0].kl:.3f} before, {even[1].kl:.3f} after",
            loc="left",
            fontsize=10,
        )
        axis.set_ylabel("share, %")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    if few:
        axes[1].set_xticks(
            np.arange(len(classes)), [readable(classes[c], "mathtext") for c in order], rotation=30, ha="right"
        )
    axes[1].set_xlabel("class, most frequent first")
    with replacing(path) as building:
        figure.savefig(building, dpi=120)


def true_counts(split: Split) -> NDArray[np.float64] | None:
    """Returns the true number of unlabeled images per class, None where nobody knows; only reports may see it."""
    if split.elsewhere is not None:
        return None
    labels = true_labels(split.listing)[split.unlabeled]
    return np.bincount(labels, minlength=len(split.listing.classes)).astype(np.float64)
