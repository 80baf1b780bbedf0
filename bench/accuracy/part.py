"""One training in a process of its own, until an evaluation is as accurate as one asks; prints what it saw as JSON.

It runs as ``python -m bench.accuracy.part CONTESTANT TARGET``, followed by options of ``debiaspl.train``.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from torch import nn

from bench.accuracy.contestants import CONTESTANTS
from debiaspl import distributed, train
from debiaspl.config import Recipe
from debiaspl.data import open_validation, read_data
from debiaspl.distributed import Ranks
from debiaspl.evaluation.accuracy import evaluate
from pipelines import console


class Reached(NamedTuple):
    """Holds what a training came to. The clock starts when the first batch is there; evaluations count."""

    seconds: float
    reached: bool
    curve: list[tuple[float, float]]
    """Seconds, and the balanced accuracy of the better network in percent, after each epoch."""


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, prints what was reached, and returns 0; 2 after a message about what to mend."""
    contestant, target, *words = list(sys.argv[1:] if arguments is None else arguments)
    recipe = train.fitted_recipe(train.build_parser().parse_args(words))
    print(json.dumps(measure(contestant, float(target), recipe, distributed.join(recipe.engine.device))._asdict()))
    return 0


def measure(contestant: str, target: float, recipe: Recipe, ranks: Ranks) -> Reached:
    """Trains a contestant until a network's balanced accuracy is ``target`` percent, or to the recipe's end."""
    split, images = read_data(recipe)
    with ExitStack() as opened:
        state, train_epoch = CONTESTANTS[contestant](recipe, split, ranks, opened)
        validation = open_validation(recipe, images, ranks)
        opened.callback(validation.source.close)
        networks: dict[str, nn.Module] = {"student": state.student, "teacher": state.teacher}
        classes = len(split.listing.classes)

        def accuracy() -> float:
            found = evaluate(networks, validation.source, validation.labels, classes, ranks)
            return max(each.balanced for each in found.values())

        return until(target, recipe.science.epochs, train_epoch, accuracy)


def until(
    target: float,
    epochs: int,
    train_epoch: Callable[[int], None],
    accuracy: Callable[[], float],
    clock: Callable[[], float] = time.perf_counter,
) -> Reached:
    """Trains at most so many ``epochs`` and asks for the ``accuracy`` after each, until it is ``target`` or more."""
    began, curve = clock(), list[tuple[float, float]]()
    for epoch in range(epochs):
        train_epoch(epoch)
        found = accuracy()
        curve.append((clock() - began, found))
        if found >= target:
            break
    return Reached(curve[-1][0], curve[-1][1] >= target, curve)


if __name__ == "__main__":
    console.run(main)
