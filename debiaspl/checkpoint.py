"""Checkpoints: everything that shapes the next step, written atomically, refused where they do not belong."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from debiaspl import __version__
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.overrides import restored
from debiaspl.step import State
from pipelines.errors import UserError
from pipelines.files import replacing

FORMAT = 1


class CheckpointError(UserError):
    """A checkpoint that is damaged or belongs to another experiment."""


@dataclass
class Progress:
    """How far a run is; how much of the epoch was consumed follows from it (step · batch)."""

    step: int = 0
    """Optimisation steps done."""
    best: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """Best epoch of each model: its ``epoch``, ``top1`` and ``balanced`` accuracy in percent."""
    last: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """Same, of the last evaluated epoch."""


def save(path: Path, state: State, progress: Progress, recipe: Recipe, split_fingerprint: str, ranks: Ranks) -> None:
    """Writes a checkpoint from the main rank. Every rank must call it: p̂'s rows and the counts live on all."""
    phat, pseudo_labels = gathered_phat(state, recipe, ranks), ranks.sum_(state.pseudo_labels.clone())
    if not ranks.is_main:
        return
    content = {
        "format": FORMAT,
        "debiaspl": __version__,
        "experiment": recipe.experiment(split_fingerprint),
        "recipe": dataclasses.asdict(recipe),
        "split": split_fingerprint,
        "progress": dataclasses.asdict(progress),
        "student": state.student.state_dict(),
        "teacher": state.teacher.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "phat": phat,
        "pseudo_labels": pseudo_labels,
        "scaler": state.scaler.state_dict(),
    }
    with replacing(path) as building:
        torch.save(content, building)


def gathered_phat(state: State, recipe: Recipe, ranks: Ranks) -> torch.Tensor:
    """Returns all rows of p̂, each from the rank that keeps it up to date. Every rank must call it."""
    if len(state.phat) == 1:
        return state.phat.clone()
    own = torch.zeros_like(state.phat)
    accumulation = recipe.science.accumulation(ranks.world)
    rows = slice(ranks.rank * accumulation, (ranks.rank + 1) * accumulation)
    own[rows] = state.phat[rows]
    return ranks.sum_(own)


def read(path: Path) -> dict[str, Any]:
    """Returns the content of a checkpoint, executing nothing of it; raises CheckpointError if it is none or damaged."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {path}.") from error
    except Exception as error:  # torch.load raises whatever the damage makes it raise
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: damaged, or it holds more than tensors)."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this program (format {FORMAT}).")
    return content


def restore(path: Path, state: State, recipe: Recipe, split_fingerprint: str, ranks: Ranks) -> Progress:
    """Loads a checkpoint into ``state``; raises CheckpointError if it is of another Science, split or format.

    Engine fields may differ; those that change bits are printed.
    """
    content = read(path)
    _refuse_other_science(path, content["recipe"]["science"], recipe)
    if content["split"] != split_fingerprint:
        raise CheckpointError(
            f"{path} was trained on another split: its data listing or index files differ from those under "
            f"{recipe.engine.data}. Restore them, or start a new run with another --out."
        )
    if ranks.is_main:
        _name_changed_engine(restored(content["recipe"]), recipe)
    state.student.load_state_dict(content["student"])
    state.teacher.load_state_dict(content["teacher"])
    _restore_optimizer(state, content["optimizer"])
    state.phat.copy_(content["phat"])
    if scaler := content.get("scaler"):  # empty or absent unless the run so far was in float16
        state.scaler.load_state_dict(scaler)
    # The saved counts are the sum over ranks: one of them carries it on.
    state.pseudo_labels.copy_(content["pseudo_labels"]) if ranks.is_main else state.pseudo_labels.zero_()
    return Progress(**content["progress"])


def _restore_optimizer(state: State, saved: dict[str, Any]) -> None:
    """Loads the momentum buffers alone: the learning rate follows from the step, all else from the recipe."""
    parameters = list(state.student.parameters())
    for number, parameter in enumerate(parameters):
        momentum = saved["state"].get(number, {}).get("momentum_buffer")
        if momentum is not None:
            state.optimizer.state[parameter]["momentum_buffer"].copy_(momentum)


def _refuse_other_science(path: Path, saved: dict[str, Any], recipe: Recipe) -> None:
    ours = dataclasses.asdict(recipe.science)
    names = sorted(saved.keys() | ours.keys())
    differing = [name for name in names if _plain(saved.get(name)) != _plain(ours.get(name))]
    if differing:
        listed = ", ".join(f"{name}: {saved.get(name)!r} there, {ours.get(name)!r} here" for name in differing)
        raise CheckpointError(
            f"{path} belongs to another experiment ({listed}). "
            "Resume with the recipe and --set it was made with, or start a new run with another --out."
        )


def _name_changed_engine(saved: Recipe, recipe: Recipe) -> None:
    """Prints which fields that shape bits have changed: resuming so is allowed, but no longer bit-exact."""
    shaping = {
        "engine": ("pipeline", "device", "precision", "compile", "deterministic"),
        "dali": ("cut", "hw_decoder_load"),
    }
    changed = []
    for section, names in shaping.items():
        before, now = getattr(saved, section), getattr(recipe, section)
        for name in names:
            if getattr(before, name) != getattr(now, name):
                changed.append(f"{section}.{name} {getattr(before, name)} → {getattr(now, name)}")
    if changed:
        print(f"no longer bit-exact with the run so far: {', '.join(changed)}")


def _plain(value: Any) -> Any:
    """Returns the value, a tuple as the list that a saved one has become."""
    return list(value) if isinstance(value, tuple | list) else value
