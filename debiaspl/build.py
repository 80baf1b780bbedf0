"""The parts of a run, built from its recipe: data, tables, networks."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.amp import GradScaler

from debiaspl.config import ConfigError, Recipe
from debiaspl.distributed import Ranks
from debiaspl.import_weights import Account, import_weights
from debiaspl.models.classifier import Classifier
from debiaspl.optim import build_optimizer
from debiaspl.step import State, Tables
from pipelines import keyed_random, open_source
from pipelines.batch import Source
from pipelines.errors import DataError, first_few
from pipelines.feed import Feed
from pipelines.order import EvaluationOrder, Stream, TrainingOrder
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import Listing, list_images
from pipelines.samples.split import NoClipTargets, Split, find_file, read_split
from pipelines.sources.options import Resources


def read_data(recipe: Recipe) -> tuple[Split, Listing]:
    """The training split and the validation listing below the data root."""
    engine, root = recipe.engine, Path(recipe.engine.data)
    train, validation = list_images(root / "train", on_bad="keep"), list_images(root / "val")
    if train.classes != validation.classes:
        differing = sorted(set(train.classes) ^ set(validation.classes))
        raise DataError(f"{root}/train and {root}/val differ in their class folders: {first_few(differing, 5)}.")
    labeled = find_file(root, engine.labeled_csv, option="--set engine.labeled_csv=…")
    unlabeled: Path | Listing
    if engine.unlabeled:
        unlabeled = list_images(root / engine.unlabeled, labeled=False, on_bad="keep")
    else:
        unlabeled = find_file(root, engine.unlabeled_csv, option="--set engine.unlabeled_csv=…")
    clip_file = root / engine.clip_file if engine.clip_file else None
    try:
        return read_split(train, labeled, unlabeled, clip_file, use_clip=recipe.science.clip), validation
    except NoClipTargets as error:
        raise NoClipTargets(f"{error} Name the file with --set engine.clip_file=…") from error


def unlabeled_beton(recipe: Recipe) -> Path:
    """The converted images of the folder engine.unlabeled."""
    engine = recipe.engine
    folder = Path(engine.data, engine.unlabeled)
    default = folder.parent / "ffcv" / f"{folder.name}.beton"
    return Path(engine.data, engine.unlabeled_beton) if engine.unlabeled_beton else default


def known_bad_files(recipe: Recipe, split: Split) -> tuple[BadFiles, BadFiles]:
    """Where the labeled and the unlabeled source note undecodable files; the same, where they share a listing."""
    limit, option = recipe.engine.bad_files, "engine.bad_files"
    labeled = BadFiles(split.listing, limit, option=option)
    same = split.unlabeled_listing is split.listing
    return labeled, labeled if same else BadFiles(split.unlabeled_listing, limit, option=option)


def open_feed(recipe: Recipe, split: Split, steps: int, ranks: Ranks, bad_files: tuple[BadFiles, BadFiles]) -> Feed:
    """Labeled and unlabeled source of this rank, paired, with their ``bad_files``."""
    science, engine = recipe.science, recipe.engine
    shares = {"groups": science.groups, "rank": ranks.rank, "world": ranks.world}

    def order(stream: Stream, batch: int, continuous: bool) -> TrainingOrder:
        indices = split.labeled if stream == Stream.LABELED else split.unlabeled
        return TrainingOrder(
            indices, seed=science.seed, stream=stream, batch=batch, steps=steps, continuous=continuous, **shares
        )

    labeled = order(Stream.LABELED, science.labeled_batch, continuous=True)
    unlabeled = order(Stream.UNLABELED, science.labeled_batch * science.mu, continuous=False)
    own = replace(resources(recipe, engine.train_beton, ranks), bad_files=bad_files[0])
    beton = own.beton if split.elsewhere is None else unlabeled_beton(recipe)
    others = replace(own, beton=beton, bad_files=bad_files[1])
    pipeline, options = engine.pipeline, recipe.source_options
    return Feed(
        open_source(pipeline, split.listing, labeled, science.labeled_views, own, options),
        open_source(pipeline, split.unlabeled_listing, unlabeled, science.unlabeled_views, others, options),
        prefetch=engine.prefetch,
    )


def open_validation(recipe: Recipe, validation: Listing, ranks: Ranks) -> Source:
    """This rank's share of the validation images, in the evaluation view."""
    order = EvaluationOrder(validation.indices, batch=recipe.engine.eval_batch, rank=ranks.rank, world=ranks.world)
    own, view = resources(recipe, recipe.engine.val_beton, ranks), recipe.science.evaluation_view
    return open_source(recipe.engine.pipeline, validation, order, view, own, recipe.source_options)


def resources(recipe: Recipe, beton: str, ranks: Ranks) -> Resources:
    """Returns what a run hands to one of its sources; ``beton`` is its converted file, below the data root."""
    engine = recipe.engine
    return Resources(
        device=str(ranks.device),
        threads=engine.threads or max(1, len(os.sched_getaffinity(0)) // ranks.local_world),
        prefetch=engine.prefetch,
        processes=ranks.local_world,
        beton=Path(engine.data, beton),
    )


def build_state(recipe: Recipe, classes: int, ranks: Ranks) -> State:
    """Student, teacher, optimizer, uniform p̂ and zero counts on this rank's device; the same on every rank.

    The student's weights are random: ``load_init`` comes next. The teacher becomes the student's copy in Step.
    """
    science = recipe.science
    torch.manual_seed(int(keyed_random.bits(science.seed, Stream.INITIALISATION) >> 1))
    student = Classifier(science.arch, classes, science.dropout, science.size)
    teacher = Classifier(science.arch, classes, size=science.size)
    for model in (student, teacher):
        model.to(ranks.device).to(memory_format=torch.channels_last)
    return State(
        student=student,
        teacher=teacher,
        optimizer=build_optimizer(student, science),
        phat=torch.full((science.phat_rows, classes), 1 / classes, device=ranks.device),
        pseudo_labels=torch.zeros(2, 2, classes, device=ranks.device),
        scaler=GradScaler(ranks.device.type, enabled=compute_dtype(recipe, ranks) == torch.float16),
    )


def load_init(recipe: Recipe, student: nn.Module, ranks: Ranks) -> Account | None:
    """Fill the student's trunk from science.init, and say what became of the file's tensors; None without a file."""
    if not recipe.science.init:
        return None
    account = import_weights(student.get_submodule("trunk"), Path(recipe.science.init))
    if ranks.is_main:
        print(f"{recipe.science.init}: {account}")
    return account


def build_tables(split: Split, ranks: Ranks) -> Tables:
    """What training may know of each sample, on the device."""
    clip = split.clip
    return Tables(
        labels=torch.from_numpy(split.labels).to(ranks.device),
        clip_label=None if clip is None else torch.from_numpy(clip.label).to(ranks.device),
        clip_confidence=None if clip is None else torch.from_numpy(clip.confidence).to(ranks.device),
    )


def compute_dtype(recipe: Recipe, ranks: Ranks) -> torch.dtype:
    """Of convolutions and matrix products."""
    wanted = recipe.engine.precision
    if wanted == "auto":
        wanted = "bfloat16" if ranks.device.type == "cuda" else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


def compiles(recipe: Recipe, ranks: Ranks) -> bool:
    """Whether the step's passes are compiled."""
    wanted, on_gpu = recipe.engine.compile, ranks.device.type == "cuda"
    if wanted == "cuda-graphs" and not on_gpu:
        raise ConfigError(
            f"engine.compile=cuda-graphs needs a CUDA device (this run is on {ranks.device}). "
            "Use --set engine.compile=on or off."
        )
    return on_gpu if wanted == "auto" else wanted != "off"


def one_group(recipe: Recipe) -> Recipe:
    """The recipe with a single group per step: the smallest step there is."""
    return replace(recipe, science=replace(recipe.science, labeled_batch=recipe.science.group))
