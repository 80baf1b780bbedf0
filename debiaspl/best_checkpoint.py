"""Makes a resumed run and its best.pt agree: what the run calls its best is what best.pt holds, to the last digit."""

from pathlib import Path
from typing import Any

from debiaspl import best
from debiaspl.checkpoint import Progress, differing_science, require_parts
from debiaspl.checkpoint_file import CheckpointError, read
from debiaspl.config import Recipe
from pipelines import console


def agree(path: Path, progress: Progress, recipe: Recipe, split_fingerprint: str) -> bool:
    """Sets ``progress.best`` to what best.pt, at ``path``, holds; returns whether that file is to be written first.

    It is where the networks as they were resumed are the best ones, and the run was killed, or refused by the disk,
    before it could write them. Where neither is so, the best networks are looked for anew.
    """
    found = _read(path, recipe, split_fingerprint)
    held = Progress(**found["progress"]).best if found else {}
    if progress.is_at_best and best.is_better(recipe.engine.best, progress.best, held):
        return True
    if progress.best and not held:
        console.say(f"{path} is not there: from here on the best networks are looked for anew")
    progress.best = held
    return False


def _read(path: Path, recipe: Recipe, split_fingerprint: str) -> dict[str, Any] | None:
    """Returns the content of best.pt; None where there is none, or none of this run's, which is said."""
    if not path.exists():
        return None
    try:
        content = read(path)
        require_parts(path, content)
        others = [name for name in differing_science(content, recipe) if name != "epochs"]  # it may be a continued run
        if others or content["split"] != split_fingerprint:
            raise CheckpointError(f"{path} belongs to another experiment.")
    except CheckpointError as error:
        console.say(f"{error} The next best networks take its place.", error=True)
        return None
    return content
