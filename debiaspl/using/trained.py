"""A run's checkpoint, opened to be used: its recipe, its class names, and its networks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from debiaspl.about import About, read_about
from debiaspl.best import better_model
from debiaspl.build import build_network
from debiaspl.checkpoint import require_parts
from debiaspl.checkpoint_file import BEST, LAST, CheckpointError, read
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.models.classifier import Classifier
from debiaspl.overrides import override, restored
from pipelines import console
from pipelines.names import readable


@dataclass(frozen=True)
class Trained:
    """Holds a checkpoint's content, checked, but for the tensors' shapes, which ``network`` checks."""

    path: Path
    content: Mapping[str, Any]
    recipe: Recipe
    about: About | None  # None in checkpoints of version 0.1.0
    classes: list[str]  # the name of each output

    def network(self, model: str, ranks: Ranks) -> Classifier:
        """Returns the 'student' or the 'teacher', in eval mode on this rank's device.

        Raises CheckpointError where its tensors do not fit the recipe.
        """
        network = build_network(self.recipe, len(self.classes), ranks)
        try:
            network.load_state_dict(self.content[model])
        except (RuntimeError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{self.path} is damaged: its {model} does not fit its recipe ({error}).") from error
        if self.about is not None:  # another version of timm may normalise by other numbers
            for name in ("mean", "std"):
                grey_levels = [value * 255 for value in getattr(self.about, name)]
                getattr(network, name).copy_(torch.tensor(grey_levels).view(1, 3, 1, 1))
        return network.eval()

    def choice(self, model: str) -> str:
        """Returns the network that is meant: 'student', 'teacher', or for 'auto' the one that was better at the end."""
        if model != "auto":
            return model
        return better_model(self.recipe.engine.best, self.content["progress"]["last"])


def find_checkpoint(run: Path, which: str = BEST) -> Path:
    """Returns ``run`` itself, a checkpoint, or the one called ``which`` in the run's folder.

    A run of version 0.1.0, without best.pt, gives its last.pt, which is said. Raises CheckpointError where the folder
    holds neither.
    """
    if not run.is_dir():
        return run
    if (run / which).exists():
        return run / which
    if (run / LAST).exists():
        console.say(f"{readable(run)} has no {which}: {LAST} is used", error=True)
        return run / LAST
    raise CheckpointError(f"{run} is a folder without a checkpoint ({BEST} or {LAST}). Name a run's folder, or a file.")


def open_trained(run: Path, which: str = BEST, sets: Sequence[str] = ()) -> Trained:
    """Returns what the checkpoint of a run's folder, or a checkpoint file, holds; ``sets`` change fields as --set does.

    Raises CheckpointError where there is none, or it is damaged, or ``sets`` change Science.
    """
    path = find_checkpoint(run, which)
    content = read(path)
    require_parts(path, content)
    saved = restored(content["recipe"])
    recipe = override(saved, sets)
    if recipe.science != saved.science:
        raise CheckpointError(
            "A trained network is used with its Science as it is; --set may change other fields only."
        )
    about = read_about(content)
    outputs = _count_outputs(path, content)
    if about is not None and len(about.classes) != outputs:
        raise CheckpointError(f"{path} is damaged: it names {len(about.classes)} classes and has {outputs} outputs.")
    return Trained(path, content, recipe, about, about.classes if about else _names_from_folders(recipe, outputs))


def _count_outputs(path: Path, content: Mapping[str, Any]) -> int:
    phat = content["phat"]
    if not isinstance(phat, torch.Tensor) or phat.ndim != 2:
        raise CheckpointError(f"{path} is damaged: its p̂ is no table.")
    return phat.shape[1]


def _names_from_folders(recipe: Recipe, outputs: int) -> list[str]:
    """Returns the class folders of the training data, for a checkpoint without names; their numbers without those."""
    for part in ("train", "val"):
        folder = Path(recipe.engine.data, part)
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []
        if len(names) == outputs:
            return names
    console.say("the checkpoint, of an older version, does not name its classes: they are called by number", error=True)
    return [str(number) for number in range(outputs)]
