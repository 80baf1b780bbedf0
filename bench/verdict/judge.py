"""The verdict: a word, the stage that bounds training, and the one change that would help most.

What counts is how much longer a step takes with its loader than on replayed batches. The limits 1.10 and 1.50 are those
of the evaluator that DALI's authors ship.
"""

from collections.abc import Sequence
from statistics import median
from typing import Literal, NamedTuple

from bench.verdict.timing import Timed

Word = Literal["INPUT-BOUND", "LEANING ON INPUT", "STEP-BOUND", "INCONCLUSIVE"]
LEANS, BOUND = 1.10, 1.50
_SPREAD = 1.25
"""Largest over smallest ratio of the rounds above which they cannot be told apart."""
_WAITS = 0.5
"""Share of its threads that a loader keeps busy below which it waits for storage, not for cores."""
_COLD = 1.3
"""How many times as long the first reading takes as the second where the disk is what bounds it."""
_SLOW_RANK = 1.10
"""How many times the median rank's step the slowest one's takes, to be called slow."""


class Setting(NamedTuple):
    """Holds what the run was opened with."""

    pipeline: str
    threads: int
    cores: int
    planes: bool = False
    on_gpu: bool = False
    precision: str = "float32"


class Measured(NamedTuple):
    """Holds what was measured, a value for each round, each in a process of its own."""

    loader: Sequence[Timed]
    again: Sequence[Timed]
    """The loader on the same files once more, which then are in memory if they fit."""
    step: Sequence[Timed]
    """On replayed batches."""
    both: Sequence[Timed]
    ranks: Sequence[float] = ()
    """Seconds of each rank's step on replayed batches, where there are several."""


class Verdict(NamedTuple):
    """Holds what is said."""

    word: Word
    ratio: float
    low: float
    high: float
    stage: str
    change: str

    def __str__(self) -> str:
        """Returns the report's line."""
        seen = (
            f"a step takes {self.ratio:.2f} times as long with its loader as without ({self.low:.2f}–{self.high:.2f})"
        )
        return f"{self.word}: {seen}; {self.stage}. {self.change}"


def judge(measured: Measured, setting: Setting) -> Verdict:
    """Returns the verdict on at least one round."""
    pairs = zip(measured.both, measured.step, strict=True)
    ratios = [both.seconds / step.seconds for both, step in pairs]
    ratio = median(each.seconds for each in measured.both) / median(each.seconds for each in measured.step)
    low, high = min(ratios), max(ratios)
    if _class(low) != _class(high) and high / low > _SPREAD:
        change = "Repeat it where nothing else computes, or with more --rounds."
        return Verdict("INCONCLUSIVE", ratio, low, high, "the rounds differ too much", change)
    word = _class(ratio)
    stage, change = _step(measured, setting) if word == "STEP-BOUND" else _input(measured, setting)
    return Verdict(word, ratio, low, high, stage, change)


def _class(ratio: float) -> Word:
    return "INPUT-BOUND" if ratio > BOUND else "LEANING ON INPUT" if ratio > LEANS else "STEP-BOUND"


def _step(measured: Measured, setting: Setting) -> tuple[str, str]:
    """Returns what bounds a run that does not wait for its images, and what would help."""
    if measured.ranks:
        slowest = max(range(len(measured.ranks)), key=lambda rank: measured.ranks[rank])
        times = measured.ranks[slowest] / median(measured.ranks)
        if times > _SLOW_RANK:
            stage = f"rank {slowest}'s step takes {times:.2f} times the median rank's, and all wait for it"
            return stage, f"Look at what else computes on rank {slowest}'s device, and at its clocks."
    if setting.precision == "float32" and setting.on_gpu:
        return "the step itself", "Try --set engine.precision=bfloat16; a faster loader would not help."
    return "the step itself", "A faster loader would not help; a faster device would."


def _input(measured: Measured, setting: Setting) -> tuple[str, str]:
    """Returns which stage of the loader bounds a run, and the change that would help most."""
    alone, again, step, both = (median(each.seconds for each in timed) for timed in measured[:4])
    if alone > _COLD * again:
        stage = f"reading: the first time takes {alone / again:.1f} times as long as the second, from memory"
        return stage, "Keep the data on a faster disk or in memory; later epochs are faster if it fits there."
    if both > LEANS * max(alone, step):
        stage = "loader and step take each other's cores: each alone is faster"
        fewer = max(1, setting.threads // 2)
        return stage, f"Try --set engine.threads={fewer}, or give the step a device of its own."
    busy = median(each.busy for each in measured.loader)
    if busy < _WAITS * min(setting.threads, setting.cores):
        stage = f"reading: of {setting.threads} threads {busy:.1f} compute, the others wait for storage"
        return stage, "Keep the data on a faster disk, or try --set engine.prefetch=8."
    stage = f"decoding and cutting, at {busy:.1f} cores"
    if setting.threads < setting.cores:
        return stage, f"Try --set engine.threads={setting.cores}: it has {setting.threads} of {setting.cores} cores."
    if setting.pipeline != "ffcv":
        return stage, "Try --pipeline ffcv, after python tools/convert_imagenet_to_ffcv.py."
    if not setting.planes:
        return stage, "Convert with python tools/convert_imagenet_to_ffcv.py --mode planes: half the CPU time an image."
    return stage, "More cores for each device; python -m bench plan says how many."
