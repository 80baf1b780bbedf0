"""Compares two samples of rates: their ratio, its 95 % interval, a Mann–Whitney test, and a verdict in words.

A sample is one rate for each process. Rounds within a process share caches, compiled code and memory layout, so they
do not count as more. Ratio and interval are Hodges and Lehmann's: the median of all ratios between one side's rates and
the other's, and the order statistics of these ratios that the exact test's distribution names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Verdict = Literal["faster", "slower", "no difference shown", "too noisy", "too few processes"]
LEVEL = 0.01
"""p-value below which a difference counts: in one pair of a hundred equal ones it does by chance."""
FEWEST = 5
"""Processes of each side below which the test cannot reach LEVEL (5 and 5: p = 0.008 at the least)."""
MARGIN = 0.02
"""Differences smaller than this are not called any, however surely they are there."""
WIDE = 0.10
"""An interval that reaches farther from its ratio than this could not have shown a change of a tenth."""
_TAIL = 0.025


@dataclass(frozen=True)
class Comparison:
    """Holds how many times the old rate the new one is, and what can be said of it."""

    ratio: float
    low: float
    high: float
    """Bounds of the 95 % interval; of fewer than four processes a side, the range of all ratios."""
    p: float
    verdict: Verdict


def compare(old: Sequence[float], new: Sequence[float]) -> Comparison:
    """Returns the comparison of two samples of rates (units per second, one a process), each of at least one."""
    ratios = np.sort(np.divide.outer(np.asarray(new, float), np.asarray(old, float)).ravel())
    skipped = _skipped(len(old), len(new))
    ratio, low, high = float(np.median(ratios)), float(ratios[skipped]), float(ratios[-1 - skipped])
    p = float(stats.mannwhitneyu(new, old).pvalue)
    return Comparison(ratio, low, high, p, _verdict(ratio, low, high, p, min(len(old), len(new))))


def _verdict(ratio: float, low: float, high: float, p: float, processes: int) -> Verdict:
    if processes < FEWEST:
        return "too few processes"
    if p < LEVEL and abs(ratio - 1) >= MARGIN:
        return "faster" if ratio > 1 else "slower"
    return "too noisy" if max(high / ratio, ratio / low) > 1 + WIDE else "no difference shown"


def _skipped(olds: int, news: int) -> int:
    """Returns how many ratios lie outside of the 95 % interval at each end."""
    tail = np.cumsum(_counts(olds, news)) / _counts(olds, news).sum()
    return int(np.searchsorted(tail, _TAIL, side="right"))


def _counts(olds: int, news: int) -> NDArray[np.float64]:
    """Returns, for each value of Mann and Whitney's U, in how many orders of distinct rates it comes about.

    They are the coefficients of Gauss's polynomial: the product of (1 − x^(olds + i)) / (1 − x^i) over i up to news.
    """
    counts = np.zeros(olds * news + 1)
    counts[0] = 1
    for i in range(1, news + 1):
        longer = counts.copy()
        longer[olds + i :] -= counts[: max(0, len(counts) - olds - i)]
        for at in range(i, len(longer)):
            longer[at] += longer[at - i]
        counts = longer
    return counts
