"""The yardstick: the four-view input pipeline as the published code builds it, from torchvision's usual parts.

A torch DataLoader with worker processes for each stream; a Dataset that opens the file with Pillow (one decode a
sample), applies one transform per view and yields float32 NCHW tensors, normalised on the CPU.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.four_views import LABELED_VIEWS, UNLABELED_VIEWS, BatchedIndices
from pipelines.augment import ops, pillow
from pipelines.errors import requires
from pipelines.views import TrainingViews

with requires("torchvision", "pip install -e '.[dev]'", "The published-style loader"):
    from torchvision import transforms

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class RandAugment:
    """Two operations of the table, each with a random level and sign."""

    def __call__(self, image: Image.Image) -> Image.Image:
        for op in random.choices(list(ops.Op), k=ops.DRAWS_PER_VIEW):
            level = random.randint(1, ops.LEVELS)
            image = pillow.apply(op, random.choice((level, -level)), image)
        return image


class PublishedDataset(Dataset[tuple[list[Tensor], int]]):
    """Samples of one stream: their views, weak ones first, and their index."""

    def __init__(self, paths: Sequence[Path], indices: NDArray[np.int64], views: TrainingViews) -> None:
        crop = [transforms.RandomResizedCrop(views.size, views.scale, views.ratio)]
        crop += [transforms.RandomHorizontalFlip()] if views.flip else []
        finish = [transforms.ToTensor(), transforms.Normalize(_MEAN, _STD)]
        weakly, strongly = transforms.Compose([*crop, *finish]), transforms.Compose([*crop, RandAugment(), *finish])
        self._paths, self._indices = paths, indices
        self._views = [weakly] * views.weak + [strongly] * views.strong

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, item: int) -> tuple[list[Tensor], int]:
        index = int(self._indices[item])
        with self._paths[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        return [view(image) for view in self._views], index


def shuffled(data: PublishedDataset, batch: int, workers: int) -> DataLoader[tuple[list[Tensor], int]]:
    """Returns the DataLoader of a stream: whole batches in a new order each epoch, by workers that live on."""
    return DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True)


class PublishedLoader:
    """The labeled and the unlabeled DataLoader, ``workers`` processes each, as the published code has them."""

    def __init__(self, paths: Sequence[Path], labeled: BatchedIndices, unlabeled: BatchedIndices, workers: int) -> None:
        def loader(stream: BatchedIndices, views: TrainingViews) -> DataLoader[tuple[list[Tensor], int]]:
            indices, batch = stream
            return shuffled(PublishedDataset(paths, indices, views), batch, workers)

        self._loaders = [loader(labeled, LABELED_VIEWS), loader(unlabeled, UNLABELED_VIEWS)]
        for each in self._loaders:
            iter(each)  # starts the workers now: forked from a process without other pipelines' threads

    def epoch(self) -> NDArray[np.int64]:
        """Loads every batch once and returns the samples' indices."""
        seen: list[Tensor] = []
        for (_, labeled), (_, unlabeled) in zip(*self._loaders, strict=True):
            seen += [labeled, unlabeled]
        return np.concatenate([indices.numpy() for indices in seen])

    def close(self) -> None:
        """Ends the workers, which live as long as their DataLoader."""
        self._loaders.clear()
