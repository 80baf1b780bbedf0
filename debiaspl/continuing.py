"""More of the same run: a finished one goes on with more epochs, on the schedule of their new number."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debiaspl.checkpoint import differing_science, require_parts
from debiaspl.config import Recipe
from debiaspl.optim import learning_rate
from debiaspl.overrides import restored
from pipelines import console
from pipelines.names import readable


def extended(path: Path, content: dict[str, Any], recipe: Recipe, steps_per_epoch: int, say: bool) -> dict[str, Any]:
    """Returns the content of a finished run's checkpoint as one of ``recipe``, which has more epochs and is else alike.

    The content of any other run is returned as it is. ``say``: the schedule that it follows from here is printed.
    Raises CheckpointError where parts are missing or damaged.
    """
    require_parts(path, content)
    saved, step = restored(content["recipe"]).science, content["progress"]["step"]
    finished = step >= saved.epochs * steps_per_epoch > 0
    if not finished or differing_science(content, recipe) != ["epochs"] or recipe.science.epochs < saved.epochs:
        return content
    if say:
        before = learning_rate(saved, step - 1, steps_per_epoch)
        after = learning_rate(recipe.science, step, steps_per_epoch)
        console.say(
            f"{readable(path)} has done its {saved.epochs} epochs and goes on to {recipe.science.epochs}: the learning "
            f"rate, {before:.3g} at its end, goes on at {after:.3g} on the cosine of {recipe.science.epochs} epochs"
        )
    progress = content["progress"]
    ends = [*progress.get("continued", []), [step, saved.epochs]]
    return {
        **content,
        "recipe": {**content["recipe"], "science": dataclasses.asdict(recipe.science)},
        "progress": {**progress, "continued": ends},
    }


def note(progress: Mapping[str, Any]) -> str:
    """Returns ', continued after …' for the title of a table; empty for a run that was not continued."""
    ends = [f"{epochs} epochs" for _, epochs in progress.get("continued", [])]
    return f", continued after {' and '.join(ends)}" if ends else ""
