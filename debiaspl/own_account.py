"""What recipe ``own`` says at its start: what it found, what it chose, and how to change each choice."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from debiaspl.config import Recipe
from debiaspl.own_data import FEWEST_EPOCHS, STEPS, is_supervised, short_sides
from pipelines.errors import first_few
from pipelines.names import readable
from pipelines.samples.listing import Listing
from pipelines.samples.split import Split
from pipelines.samples.survey import large, survey

_CLASSES = 12
"""How many classes are named with their counts."""
_SLOW = 128
"""Size, pixels, above which a CPU takes hours."""


def account(recipe: Recipe, split: Split, validation: Listing) -> list[str]:
    """Returns the lines, each choice with the option that changes it."""
    rows = [*_data(recipe, split, validation), *_choices(recipe, split)]
    width = max(len(name) for name, _ in rows)
    return [*(f"{name:<{width}}  {text}" for name, text in rows), *remarks(split, recipe.science.size)]


def remarks(split: Split, size: int) -> list[str]:
    """Returns a line for each kind of training file that is not what it seems, or that takes much time to decode."""
    lines = []
    for listing in dict.fromkeys((split.listing, split.unlabeled_listing)):
        lines += [f"{readable(listing.root)}: {line}" for line in (*survey(listing), large(listing, size)) if line]
    return lines


def _data(recipe: Recipe, split: Split, validation: Listing) -> Iterator[tuple[str, str]]:
    """Yields what was found: classes, and the pictures of each kind."""
    engine, classes = recipe.engine, split.listing.classes
    root = Path(engine.data)
    counts = np.bincount(split.labels[split.labeled], minlength=len(classes)).tolist()
    named = [f"{readable(name)} {count:,}" for name, count in zip(classes, counts, strict=True)]
    yield "classes", f"{len(classes)}, with labeled pictures: {first_few(named, _CLASSES)}"
    which = engine.labeled_csv[0] if engine.labeled_csv else "all but what is held back" if not engine.val else "all"
    yield "labeled", f"{len(split.labeled):,} in {readable(root / engine.train)} ({readable(which)})"
    yield "unlabeled", _unlabeled(recipe, split)
    if engine.val:
        yield "validation", f"{len(validation.indices):,} in {readable(root / engine.val)}"
    else:
        share = f"{engine.held_back:.0%} of the labeled pictures of each class"
        val = readable(root / "val")
        yield "validation", f"{len(validation.indices):,}: {share}, held back (--set held_back=…, or make {val})"


def _unlabeled(recipe: Recipe, split: Split) -> str:
    engine, count = recipe.engine, f"{len(split.unlabeled):,}"
    if not is_supervised(recipe):
        where = Path(engine.data, engine.unlabeled) if engine.unlabeled else engine.unlabeled_csv[0]
        return f"{count} ({readable(where)})"
    folder = readable(Path(engine.data, "unlabeled"))
    return (
        f"none, so that training is supervised. For pseudo-labels, put pictures into {folder}, or let "
        "debiaspl splits choose few labels"
    )


def _choices(recipe: Recipe, split: Split) -> Iterator[tuple[str, str]]:
    """Yields what was chosen, and the option that changes it."""
    science = recipe.science
    unlabeled = science.labeled_batch * science.mu
    steps, median = len(split.unlabeled) // unlabeled, int(np.median(short_sides(split)))
    yield "size", f"{science.size} px (the median short side is {median}): --set size=…"
    weights = f"weights from {readable(science.init)}" if science.init else "random weights; others: --init FILE"
    yield "network", f"{science.arch} with {weights}; --set arch=…"
    if science.size > _SLOW and not science.init:
        yield "", f"without a GPU, --set size=64 is about {(science.size / 64) ** 2:.0f} times as fast or more"
    yield "a step", f"{science.labeled_batch} labeled and {unlabeled} unlabeled: --set labeled_batch=… --set mu=…"
    goal = f"at least {STEPS:,} steps and {FEWEST_EPOCHS} epochs are chosen"
    yield "epochs", f"{science.epochs} of {steps} steps, {science.epochs * steps:,} in all ({goal}): --set epochs=…"
    if is_supervised(recipe):
        yield "objective", "supervised"
    else:
        yield "objective", f"pseudo-labels from a probability of {science.threshold:g} on: --set threshold=…"
    yield "mirrored", "half of the views; for text or signs: --set flip=false" if science.flip else "never"
    yield "reading", f"transparency: --set alpha={science.alpha}; EXIF's rotation: --set exif={science.exif}"
    yield "pipeline", f"{recipe.engine.pipeline}: --pipeline …"
