"""A run's parts, built from its recipe: networks and state, what training may know of each sample, and the step."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.amp import GradScaler

from debiaspl.config import ConfigError, Recipe
from debiaspl.data import TrainingData, ValidationData, open_training, open_validation, steps_per_epoch
from debiaspl.device import automatic_precision
from debiaspl.distributed import Ranks
from debiaspl.import_weights import Account, import_weights
from debiaspl.models.classifier import Classifier
from debiaspl.optim import build_optimizer
from debiaspl.step import State, Step, Tables
from pipelines import console, keyed_random
from pipelines.names import readable
from pipelines.order import Stream
from pipelines.samples.listing import Listing
from pipelines.samples.split import Split

AUTOMATIC_ON_A_GPU = "on"
"""What engine.compile=auto means on a GPU; 'cuda-graphs' once they have been run and compared on one."""


@dataclass(frozen=True)
class Learner:
    """Holds what is trained, and the step that trains it."""

    state: State
    step: Step
    dtype: torch.dtype
    """The dtype that convolutions and matrix products compute in, when training and evaluating."""
    imported: Account | None
    """What became of each tensor of the weights file that the student's trunk started from, if there was one."""


@dataclass(frozen=True)
class Run:
    """All parts of a run on one rank, as debiaspl.trainer.Trainer takes them."""

    recipe: Recipe
    ranks: Ranks
    learner: Learner
    training: TrainingData
    validation: ValidationData

    def close(self) -> None:
        """Closes the data sources."""
        self.training.feed.close()
        self.validation.source.close()


def build_run(recipe: Recipe, split: Split, validation: Listing, ranks: Ranks, *, resuming: bool = False) -> Run:
    """Assembles a run; ``resuming``: a checkpoint follows, so the weights for the start are not needed."""
    steps_per_epoch(recipe, split)  # a batch too large is said before anything is built
    learner = build_learner(recipe, split, ranks, resuming=resuming)
    training = open_training(recipe, split, ranks)
    if not ranks.is_main:  # what the listing and the .beton tell, they tell every rank
        training.new_bad_files()
    return Run(recipe, ranks, learner, training, open_validation(recipe, validation, ranks))


def build_learner(recipe: Recipe, split: Split, ranks: Ranks, *, resuming: bool = False) -> Learner:
    """Builds state and step; unless ``resuming``, the student's trunk starts from the weights that the recipe names."""
    state = build_state(recipe, len(split.listing.classes), ranks)
    imported = None if resuming else _load_initial_weights(recipe, state, ranks)
    dtype, how = compute_dtype(recipe, ranks), compilation(recipe, ranks)
    step = Step(
        state,
        build_tables(split, ranks),
        recipe.science,
        ranks,
        dtype=dtype,
        compile=how != "off",
        cuda_graphs=how == "cuda-graphs",
    )
    return Learner(state, step, dtype, imported)


def build_network(recipe: Recipe, classes: int, ranks: Ranks, dropout: float = 0.0) -> Classifier:
    """Returns a classifier of the recipe's architecture with random weights, channels-last on this rank's device."""
    network = Classifier(recipe.science.arch, classes, dropout, recipe.science.size)
    return network.to(ranks.device).to(memory_format=torch.channels_last)


def build_state(recipe: Recipe, classes: int, ranks: Ranks) -> State:
    """Returns student, teacher, optimizer, uniform p̂ and zero counts on this rank's device; the same on every rank.

    The student's weights are random. The teacher becomes the student's copy in Step.
    """
    science = recipe.science
    torch.manual_seed(int(keyed_random.bits(science.seed, Stream.INITIALISATION) >> 1))
    student = build_network(recipe, classes, ranks, science.dropout)
    return State(
        student=student,
        teacher=build_network(recipe, classes, ranks),
        optimizer=build_optimizer(student, science),
        phat=torch.full((science.phat_rows, classes), 1 / classes, device=ranks.device),
        pseudo_labels=torch.zeros(2, 2, classes, device=ranks.device),
        scaler=GradScaler(ranks.device.type, enabled=compute_dtype(recipe, ranks) == torch.float16),
    )


def _load_initial_weights(recipe: Recipe, state: State, ranks: Ranks) -> Account | None:
    """Fills the student's trunk from science.init; returns what became of the file's tensors, None without a file."""
    if not recipe.science.init:
        return None
    account = import_weights(state.student.get_submodule("trunk"), Path(recipe.science.init))
    if ranks.is_main:
        console.say(f"{readable(recipe.science.init)}: {account}")
    return account


def build_tables(split: Split, ranks: Ranks) -> Tables:
    """Returns what training may know of each sample, on the device."""
    clip = split.clip
    return Tables(
        labels=torch.from_numpy(split.labels).to(ranks.device),
        clip_label=None if clip is None else torch.from_numpy(clip.label).to(ranks.device),
        clip_confidence=None if clip is None else torch.from_numpy(clip.confidence).to(ranks.device),
    )


def compute_dtype(recipe: Recipe, ranks: Ranks) -> torch.dtype:
    """Returns the dtype that convolutions and matrix products compute in."""
    wanted = recipe.engine.precision
    if wanted == "auto":
        wanted = automatic_precision(ranks.device)
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


def compilation(recipe: Recipe, ranks: Ranks) -> str:
    """Returns how the step's passes run: 'off' (eager), 'on' (compiled) or 'cuda-graphs' (compiled and replayed).

    Raises ConfigError where CUDA graphs need a GPU.
    """
    wanted, on_gpu = recipe.engine.compile, ranks.device.type == "cuda"
    if wanted == "cuda-graphs" and not on_gpu:
        raise ConfigError(
            f"engine.compile=cuda-graphs needs a CUDA device (this run is on {ranks.device}). "
            "Use --set engine.compile=on or off."
        )
    if wanted == "auto":
        return AUTOMATIC_ON_A_GPU if on_gpu else "off"
    return wanted


def one_group(recipe: Recipe) -> Recipe:
    """Returns the recipe with a single group per step: the smallest step there is."""
    return replace(recipe, science=replace(recipe.science, labeled_batch=recipe.science.group))
