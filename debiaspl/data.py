"""A recipe's images, opened: the split, the feed that trains, the validation set, and what is known of broken files."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.folders import read_data as read_data
from debiaspl.folders import steps_per_epoch as steps_per_epoch
from pipelines import open_source
from pipelines.batch import Source
from pipelines.names import readable
from pipelines.order import EvaluationOrder, PredictionOrder, Stream, TrainingOrder
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import Listing
from pipelines.samples.split import Split
from pipelines.sources.feed import Feed
from pipelines.sources.options import Resources

FEW = 3
"""Undecodable files that a small set may have, too, unless engine.bad_files is 0."""


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on: the batches of one rank, and a record of the undecodable files among them."""

    split: Split
    steps_per_epoch: int
    bad_files: tuple[BadFiles, BadFiles]
    """Of the labeled and of the unlabeled source; the same object twice where they share a listing."""
    feed: Feed

    def new_bad_files(self) -> list[str]:
        """Returns the undecodable files, with reasons, that this rank was the first to meet since the last call."""
        return [name for bad_files in dict.fromkeys(self.bad_files) for name in bad_files.news()]

    def share_bad_files(self, ranks: Ranks) -> list[str]:
        """Tells every rank which files any of them found undecodable; returns all of these, with reasons.

        Every rank must call it.
        """
        names: list[str] = []
        listings = self.split.listing, self.split.unlabeled_listing
        for bad_files, listing in dict(zip(self.bad_files, listings, strict=True)).items():
            met = torch.zeros(len(listing), device=ranks.device)
            met[list(bad_files.known)] = 1
            bad_files.learn(ranks.sum_(met).nonzero().flatten().tolist())
            known = sorted(bad_files.known.items())
            names += [readable(f"{listing.path(index)}: {reason}") for index, reason in known]
        return names


@dataclass(frozen=True)
class ValidationData:
    """The validation images of one rank in the evaluation view, and the true labels of all of them by index."""

    source: Source
    labels: Int64[Tensor, "n"]
    listing: Listing


def unlabeled_beton(recipe: Recipe) -> Path:
    """Returns the path of the converted images of the folder engine.unlabeled."""
    engine = recipe.engine
    folder = Path(engine.data, engine.unlabeled)
    default = folder.parent / "ffcv" / f"{folder.name}.beton"
    return Path(engine.data, engine.unlabeled_beton) if engine.unlabeled_beton else default


def open_training(recipe: Recipe, split: Split, ranks: Ranks) -> TrainingData:
    """Opens the labeled and the unlabeled source of this rank, paired to one feed."""
    steps, bad_files = steps_per_epoch(recipe, split), _bad_files(recipe, split)
    science, engine = recipe.science, recipe.engine
    shares = {"groups": science.groups, "rank": ranks.rank, "world": ranks.world}

    def order(stream: Stream, batch: int, continuous: bool) -> TrainingOrder:
        indices = split.labeled if stream == Stream.LABELED else split.unlabeled
        return TrainingOrder(
            indices, seed=science.seed, stream=stream, batch=batch, steps=steps, continuous=continuous, **shares
        )

    labeled = order(Stream.LABELED, science.labeled_batch, continuous=True)
    unlabeled = order(Stream.UNLABELED, science.labeled_batch * science.mu, continuous=False)
    own = replace(_resources(recipe, engine.train_beton, ranks), bad_files=bad_files[0])
    beton = own.beton if split.elsewhere is None else unlabeled_beton(recipe)
    others = replace(own, beton=beton, bad_files=bad_files[1])
    pipeline, options = engine.pipeline, recipe.source_options
    feed = Feed(
        open_source(pipeline, split.listing, labeled, science.labeled_views, own, options),
        open_source(pipeline, split.unlabeled_listing, unlabeled, science.unlabeled_views, others, options),
        prefetch=engine.prefetch,
        device=str(ranks.device),
    )
    return TrainingData(split, steps, bad_files, feed)


def open_validation(recipe: Recipe, validation: Listing, ranks: Ranks) -> ValidationData:
    """Opens this rank's share of the validation images."""
    order = EvaluationOrder(validation.indices, batch=recipe.engine.eval_batch, rank=ranks.rank, world=ranks.world)
    own, view = _resources(recipe, recipe.engine.val_beton, ranks), recipe.science.evaluation_view
    source = open_source(recipe.engine.pipeline, validation, order, view, own, recipe.source_options)
    return ValidationData(source, torch.from_numpy(validation.labels).to(ranks.device), validation)


def open_pictures(recipe: Recipe, listing: Listing, ranks: Ranks, bad_files: BadFiles) -> Source:
    """Opens images to be classified, in the evaluation view; ``bad_files`` takes those that cannot be decoded."""
    order = PredictionOrder(listing.indices, batch=recipe.engine.eval_batch, rank=ranks.rank, world=ranks.world)
    own = replace(_resources(recipe, recipe.engine.val_beton, ranks), bad_files=bad_files)
    return open_source(
        recipe.engine.pipeline, listing, order, recipe.science.evaluation_view, own, recipe.source_options
    )


def open_labeled(recipe: Recipe, split: Split, ranks: Ranks) -> Source:
    """Opens this rank's share of the readable labeled images in the evaluation view: the bank of a kNN evaluation."""
    whole = np.setdiff1d(split.labeled, [*split.listing.bad])
    order = EvaluationOrder(whole, batch=recipe.engine.eval_batch, rank=ranks.rank, world=ranks.world)
    recipe = replace(recipe, ffcv=replace(recipe.ffcv, cache="page"))  # a few, read once
    own, view = _resources(recipe, recipe.engine.train_beton, ranks), recipe.science.evaluation_view
    return open_source(recipe.engine.pipeline, split.listing, order, view, own, recipe.source_options)


def source_threads(recipe: Recipe, ranks: Ranks) -> int:
    """Returns how many CPU threads each source of this rank has."""
    return recipe.engine.threads or ranks.cores


def _bad_files(recipe: Recipe, split: Split) -> tuple[BadFiles, BadFiles]:
    """Returns where the labeled and the unlabeled source note undecodable files."""
    of = partial(BadFiles, limit=recipe.engine.bad_files, least=FEW, option="engine.bad_files")
    labeled = of(split.listing)
    return labeled, labeled if split.unlabeled_listing is split.listing else of(split.unlabeled_listing)


def _resources(recipe: Recipe, beton: str, ranks: Ranks) -> Resources:
    """Returns what a run hands to one of its sources; ``beton`` is its converted file, below the data root."""
    engine = recipe.engine
    return Resources(
        device=str(ranks.device),
        threads=source_threads(recipe, ranks),
        prefetch=engine.prefetch,
        processes=ranks.local_world,
        compile=engine.compile != "off",
        beton=Path(engine.data, beton),
    )
