"""Compares two samples of rates: their ratio, its 95 % interval, a rank test, and a verdict in words.

A sample is one rate for each process. Rounds within a process share caches, compiled code and memory layout, so they
do not count as more. Samples that were measured in turns are compared turn by turn (Wilcoxon's signed ranks), so that
the machine's drift cancels; others by Mann and Whitney's test. Ratio and interval are Hodges and Lehmann's: the median
of all ratios, of which the exact test's distribution names the two that end the interval.
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
FEWEST, FEWEST_TURNS = 5, 8
"""Processes of each side, and turns, below which a test cannot reach LEVEL (p is 0.008 at the least with so many)."""
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
    """Bounds of the 95 % interval; of fewer than four processes a side, or six turns, the range of all ratios."""
    p: float
    verdict: Verdict


def compare(old: Sequence[float], new: Sequence[float]) -> Comparison:
    """Returns the comparison of two samples of rates (units per second, one a process), each of at least one."""
    ratios = np.sort(np.divide.outer(np.asarray(new, float), np.asarray(old, float)).ravel())
    p = float(stats.mannwhitneyu(new, old).pvalue)
    return _judged(ratios, _orders(len(old), len(new)), p, min(len(old), len(new)) >= FEWEST)


def compare_turns(old: Sequence[float], new: Sequence[float]) -> Comparison:
    """Returns the same of as many rates of each, the first ones measured beside each other, and so on.

    Its ratios are those of the turns, and the geometric means of each two of them (Walsh's averages).
    """
    logs = np.log(np.asarray(new, float) / np.asarray(old, float))
    first, second = np.triu_indices(len(logs))
    ratios = np.exp(np.sort((logs[first] + logs[second]) / 2))
    p = float(stats.wilcoxon(logs, method="exact").pvalue) if logs.any() else 1.0
    return _judged(ratios, _signs(len(logs)), p, len(logs) >= FEWEST_TURNS)


def _judged(ratios: NDArray[np.float64], cases: NDArray[np.float64], p: float, enough: bool) -> Comparison:
    """Returns the comparison from sorted ratios; ``cases``: in how many equally likely ones k of them are below 1."""
    tail = np.cumsum(cases) / cases.sum()
    outside = max(0, int(np.searchsorted(tail, _TAIL, side="right")) - 1)  # so many on each side, the test rejects
    ratio, low, high = float(np.median(ratios)), float(ratios[outside]), float(ratios[-1 - outside])
    return Comparison(ratio, low, high, p, _verdict(ratio, low, high, p) if enough else "too few processes")


def _verdict(ratio: float, low: float, high: float, p: float) -> Verdict:
    if p < LEVEL and abs(ratio - 1) >= MARGIN:
        return "faster" if ratio > 1 else "slower"
    return "too noisy" if max(high / ratio, ratio / low) > 1 + WIDE else "no difference shown"


def _signs(turns: int) -> NDArray[np.float64]:
    """Returns, for each value of Wilcoxon's W, in how many ways of signing the ranks it comes about.

    They are the coefficients of the product of (1 + x^i) over i up to ``turns``.
    """
    counts = np.zeros(turns * (turns + 1) // 2 + 1)
    counts[0] = 1
    for i in range(1, turns + 1):
        counts[i:] += counts[:-i].copy()
    return counts


def _orders(olds: int, news: int) -> NDArray[np.float64]:
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
