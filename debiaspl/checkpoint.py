"""What a checkpoint holds: everything that shapes the next step, checked whole before any of it is loaded."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiaspl import __version__
from debiaspl.about import About, read_about
from debiaspl.checkpoint_file import FORMAT, CheckpointError
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.overrides import restored, saved_science
from debiaspl.step import State
from pipelines import console
from pipelines.errors import UserError

_PARTS = ("experiment", "recipe", "split", "progress", "student", "teacher", "optimizer", "phat", "pseudo_labels")


@dataclass
class Progress:
    """How far a run is; how much of the epoch was consumed follows from it (step · batch)."""

    step: int = 0
    """Optimisation steps done."""
    evaluated: int = 0
    """Steps that had been done when the networks were last evaluated."""
    records: int = 0
    """Lines of metrics.jsonl at that step; 0 in checkpoints of the versions before, which did not count them."""
    best: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """Of the epoch that best.pt holds: each model's ``epoch``, ``top1`` and ``balanced`` accuracy in percent."""
    last: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """Same, of the last evaluated epoch."""
    continued: list[list[int]] = dataclasses.field(default_factory=list)
    """[steps, epochs] of each end from which the run went on with more epochs than it had begun with."""

    @property
    def is_at_best(self) -> bool:
        """Returns whether the networks, as they stand, have been evaluated and are the best so far."""
        return 0 < self.step == self.evaluated and bool(self.last) and self.last == self.best


def capture(
    state: State, progress: Progress, recipe: Recipe, split_fingerprint: str, about: About, ranks: Ranks
) -> dict[str, Any]:
    """Returns a checkpoint's content, as copies on the host that later steps leave alone.

    Every rank must call it: p̂'s rows and the counts live on all. Only the main rank's answer is of use.
    """
    phat, pseudo_labels = gathered_phat(state, recipe, ranks), ranks.sum_(state.pseudo_labels.clone())
    if not ranks.is_main:
        return {}
    content = {
        "format": FORMAT,
        "debiaspl": __version__,
        "experiment": recipe.experiment(split_fingerprint),
        "recipe": dataclasses.asdict(recipe),
        "about": about._asdict(),
        "split": split_fingerprint,
        "progress": dataclasses.asdict(progress),
        "student": state.student.state_dict(),
        "teacher": state.teacher.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "phat": phat,
        "pseudo_labels": pseudo_labels,
        "scaler": state.scaler.state_dict(),
    }
    return {name: _copied(part) for name, part in content.items()}


def _copied(part: Any) -> Any:
    """Returns a nested content with its tensors copied to the host."""
    if isinstance(part, Tensor):
        return part.detach().to("cpu", copy=True)
    if isinstance(part, dict):
        return {key: _copied(value) for key, value in part.items()}
    return type(part)(map(_copied, part)) if isinstance(part, list | tuple) else part


def gathered_phat(state: State, recipe: Recipe, ranks: Ranks) -> Tensor:
    """Returns all rows of p̂, each from the rank that keeps it up to date. Every rank must call it."""
    if len(state.phat) == 1:
        return state.phat.clone()
    own = torch.zeros_like(state.phat)
    accumulation = recipe.science.accumulation(ranks.world)
    rows = slice(ranks.rank * accumulation, (ranks.rank + 1) * accumulation)
    own[rows] = state.phat[rows]
    return ranks.sum_(own)


def restore(
    path: Path, content: Mapping[str, Any], state: State, recipe: Recipe, split_fingerprint: str, ranks: Ranks
) -> Progress:
    """Loads the ``content`` of the checkpoint ``path`` into ``state``; returns how far that run was.

    Raises CheckpointError, with ``state`` as it was, if the content is of another Science or split, or is not what
    ``capture`` returns. Engine fields may differ; those that change bits are printed.
    """
    require_parts(path, content)
    if content["split"] != split_fingerprint:  # first: what recipe own chooses may differ for that alone
        raise CheckpointError(
            f"{path} was trained on another split: its data listing or index files differ from those under "
            f"{recipe.engine.data}. Restore them, or start a new run with another --out."
        )
    _refuse_other_science(path, content, recipe)
    if problem := _misfit(content, state):
        raise CheckpointError(f"{path} is not a checkpoint of this run: {problem}.")
    if ranks.is_main:
        _name_changed_engine(restored(content["recipe"]), recipe)
    state.student.load_state_dict(content["student"])
    state.teacher.load_state_dict(content["teacher"])
    for number, parameter in enumerate(state.student.parameters()):  # all else follows from the step and the recipe
        momentum = content["optimizer"]["state"][number]["momentum_buffer"]
        state.optimizer.state[parameter]["momentum_buffer"].copy_(momentum)
    state.phat.copy_(content["phat"])
    if scaler := content.get("scaler"):  # empty or absent unless the run so far was in float16
        state.scaler.load_state_dict(scaler)
    # The saved counts are the sum over ranks: one of them carries it on.
    state.pseudo_labels.copy_(content["pseudo_labels"]) if ranks.is_main else state.pseudo_labels.zero_()
    progress = Progress(**content["progress"])
    if content["format"] == 1:  # that version saved an epoch after its evaluation
        progress.evaluated = progress.step
    if "about" not in content:  # nor did it keep the best networks
        progress.best = {}
    return progress


def require_parts(path: Path, content: Mapping[str, Any]) -> None:
    """Raises CheckpointError where a part is missing or what surrounds the tensors has another form."""
    missing = [name for name in _PARTS if name not in content]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}: it is damaged, or of another program.")
    try:
        json.dumps(content["recipe"], sort_keys=True)  # TypeError for tensors, and for keys that are no text
        restored(content["recipe"])
        read_about(content)
        science, progress = content["recipe"]["science"], Progress(**content["progress"])
        accuracies = [row for rows in (progress.best, progress.last) for row in rows.values()]
        ends = [number for end in progress.continued for number in end]
        counts = [progress.step, progress.evaluated, progress.records, *ends]
        numbers = [value for row in accuracies for value in (row["epoch"], row["top1"], row["balanced"])]
        sound = (
            isinstance(science, dict)
            and isinstance(content["split"], str)
            and all(type(count) is int and count >= 0 for count in counts)
            and all(type(number) is float and math.isfinite(number) for number in numbers)
        )
    except (KeyError, TypeError, AttributeError, ValueError, UserError) as error:
        raise CheckpointError(
            f"{path} is damaged: its recipe, progress or description cannot be read ({error})."
        ) from error
    if not sound:
        raise CheckpointError(f"{path} is damaged: its recipe or progress has values that no run has.")


def _misfit(content: Mapping[str, Any], state: State) -> str:
    """Returns why the tensors cannot be those of ``state``; empty where they can."""
    parameters = list(state.student.parameters())
    expected: dict[str, Mapping[Any, Tensor]] = {
        "student": state.student.state_dict(),
        "teacher": state.teacher.state_dict(),
        "momentum": dict(enumerate(parameters)),
        "p̂ and counts": {"phat": state.phat, "pseudo_labels": state.pseudo_labels},
    }
    optimizer = content["optimizer"]
    slots = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    if not isinstance(slots, Mapping) or not all(isinstance(slot, Mapping) for slot in slots.values()):
        return "its optimizer has no momentum"
    buffers = {number: slot.get("momentum_buffer") for number, slot in slots.items()}
    found = {**content, "momentum": buffers, "p̂ and counts": content}
    for part, tensors in expected.items():
        if problem := _differing(found[part], tensors, exactly=part != "p̂ and counts"):
            return f"{part}: {problem}"
    return _misfit_of_scaler(content.get("scaler"))


def _differing(found: Any, expected: Mapping[Any, Tensor], *, exactly: bool) -> str:
    """Returns how ``found`` differs from ``expected`` in names, shapes and dtypes, or that a value is not finite."""
    if not isinstance(found, Mapping):
        return f"it holds {type(found).__name__}, no tensors by name"
    other = [name for name in expected if name not in found] or (
        [name for name in found if name not in expected] if exactly else []
    )
    if other:
        return f"{other[0]} is only in one of the two"
    for name, tensor in expected.items():
        value = found[name]
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            return f"{name} is no plain tensor"
        if (value.shape, value.dtype) != (tensor.shape, tensor.dtype):
            return (
                f"{name} has shape {tuple(value.shape)} and {value.dtype}, not {tuple(tensor.shape)} and {tensor.dtype}"
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return f"{name} has values that are not finite"
    return ""


def _misfit_of_scaler(saved: Any) -> str:
    if saved is None or saved == {}:
        return ""
    names = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
    numbers = isinstance(saved, dict) and all(type(value) in (int, float) for value in saved.values())
    return "" if numbers and set(saved) == names else "the scaler of the loss is not one"


def differing_science(content: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Returns the names of the Science fields in which a checkpoint's recipe and this one differ."""
    saved, ours = saved_science(content["recipe"]), dataclasses.asdict(recipe.science)
    return [name for name in sorted(saved.keys() | ours.keys()) if _plain(saved.get(name)) != _plain(ours.get(name))]


def _refuse_other_science(path: Path, content: Mapping[str, Any], recipe: Recipe) -> None:
    saved, ours = saved_science(content["recipe"]), dataclasses.asdict(recipe.science)
    if differing := differing_science(content, recipe):
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
        console.say(f"no longer bit-exact with the run so far: {', '.join(changed)}")


def _plain(value: Any) -> Any:
    """Returns the value, a tuple as the list that a saved one has become."""
    return list(value) if isinstance(value, tuple | list) else value
