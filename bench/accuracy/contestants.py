"""The same recipe trained in two ways: our pipeline and step, and Pillow, DataLoaders and a loop for everything.

Both start from the same weights and have the same learning rate, steps, batches and losses. Their crops and orders
differ, as each draws its own.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import chain, islice
from typing import Any

from bench.yardsticks.published_loader import PublishedDataset, shuffled
from bench.yardsticks.published_step import Images, PublishedStep
from debiaspl.build import build_learner, build_state, build_tables
from debiaspl.config import Recipe
from debiaspl.data import open_training, source_threads, steps_per_epoch
from debiaspl.distributed import Ranks
from debiaspl.optim import learning_rate
from debiaspl.step import State
from pipelines.samples.split import Split

OURS, PUBLISHED = "ours", "published habits"
Train = tuple[State, Callable[[int], None]]
"""What is trained, and what trains one epoch, by its number."""


def ours(recipe: Recipe, split: Split, ranks: Ranks, opened: ExitStack) -> Train:
    """Returns the trainer's own step and feed, which has loaded its first batch; ``opened`` closes the feed."""
    science, learner = recipe.science, build_learner(recipe, split, ranks)
    training = open_training(recipe, split, ranks)
    opened.callback(training.feed.close)
    with closing(training.feed.batches()) as batches:
        next(batches)
    groups = science.accumulation(ranks.world)

    def epoch(number: int) -> None:
        training.feed.seek(number, 0, 0)
        with closing(training.feed.batches()) as batches:
            for step in range(number * training.steps_per_epoch, (number + 1) * training.steps_per_epoch):
                for each in learner.state.optimizer.param_groups:
                    each["lr"].fill_(learning_rate(science, step, training.steps_per_epoch))
                learner.step(list(islice(batches, groups)), step)

    return learner.state, epoch


def published(recipe: Recipe, split: Split, ranks: Ranks, opened: ExitStack) -> Train:
    """Returns the published habits' step and loaders, which have loaded their first batch; ``opened`` ends them."""
    science, steps = recipe.science, steps_per_epoch(recipe, split)
    state = build_state(recipe, len(split.listing.classes), ranks)
    step_of = PublishedStep(state, build_tables(split, ranks), science)
    images = opened.enter_context(closing(_images(recipe, split, source_threads(recipe, ranks))))
    loaded = chain([next(images)], images)
    groups = science.accumulation(ranks.world)

    def epoch(number: int) -> None:
        for step in range(number * steps, (number + 1) * steps):
            for each in state.optimizer.param_groups:
                each["lr"] = learning_rate(science, step, steps)
            step_of.on_images(list(islice(loaded, groups)), step)

    return state, epoch


CONTESTANTS = {OURS: ours, PUBLISHED: published}


def _images(recipe: Recipe, split: Split, workers: int) -> Generator[Images]:
    """Yields the images of one group after another, without end, from a DataLoader for each stream."""
    science = recipe.science
    streams = (
        (split.listing, split.labeled, science.labeled_views, science.group),
        (split.unlabeled_listing, split.unlabeled, science.unlabeled_views, science.group * science.mu),
    )
    loaders = [
        shuffled(PublishedDataset([listing.path(at) for at in range(len(listing))], indices, views), batch, workers)
        for listing, indices, views, batch in streams
    ]
    weak = science.unlabeled_views.weak
    for (labeled, labeled_index), (unlabeled, unlabeled_index) in zip(*map(_endless, loaders), strict=True):
        yield Images(labeled[0], unlabeled[:weak], unlabeled[weak:], labeled_index, unlabeled_index)


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Yields the batches of one epoch after another."""
    while True:
        yield from loader
