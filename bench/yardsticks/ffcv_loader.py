"""The yardstick for our ffcv pipeline: FFCV's own Loader over the same .beton, with its own crops and flips.

Each view is a pipeline of its own, which decodes the JPEG again: FFCV has no decoder that yields several views. It has
no RandAugment either, so its strong views are crops and flips only. It runs in a process of its own, because it changes
the number of threads of torch and numba, and compiles code that makes numba's types immutable.
"""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.four_views import BatchedIndices

_SIZE = 224


def _serve(connection: Connection, beton: str, streams: list[tuple[list[int], int, int]], threads: int) -> None:
    """Loads an epoch of all streams (indices, batch, views) as often as it is asked to, and sends back the indices."""
    loaders = [_loader(beton, *stream, threads) for stream in streams]
    for loader in loaders:
        list(loader)  # compiles
    connection.send(None)
    while connection.recv():
        seen = [batch[-1].ravel().copy() for batches in zip(*loaders, strict=True) for batch in batches]
        connection.send(np.concatenate(seen).astype(np.int64))


def _loader(beton: str, indices: list[int], batch: int, views: int, threads: int) -> Any:
    """Returns FFCV's Loader of one stream; a batch ends with the index field."""
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.pipeline import PipelineSpec
    from ffcv.transforms import RandomHorizontalFlip

    def view() -> PipelineSpec:
        return PipelineSpec("image", RandomResizedCropRGBImageDecoder((_SIZE, _SIZE)), [RandomHorizontalFlip()])

    pipelines: dict[str, Any] = {"image": view(), "label": None, "index": None}
    pipelines |= {f"view {number}": view() for number in range(1, views)}
    pipelines["which"] = PipelineSpec("index", IntDecoder())  # after the views: the order of a batch's parts
    return Loader(
        beton, batch, num_workers=threads, os_cache=True, order=OrderOption.RANDOM, indices=indices,
        pipelines=pipelines, drop_last=True,
    )  # fmt: skip


class FfcvLoader:
    """Holds the process with one Loader for the labeled stream (1 view) and one for the unlabeled stream (4 views)."""

    def __init__(self, beton: Path, labeled: BatchedIndices, unlabeled: BatchedIndices, threads: int) -> None:
        streams = [(of[0].tolist(), of[1], views) for of, views in ((labeled, 1), (unlabeled, 4))]
        spawn = multiprocessing.get_context("spawn")
        self._connection, other = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(other, str(beton), streams, threads))
        self._process.start()
        other.close()
        self._connection.recv()

    def epoch(self) -> NDArray[np.int64]:
        """Loads every batch once and returns the samples' indices."""
        self._connection.send(True)
        found: NDArray[np.int64] = self._connection.recv()
        return found

    def close(self) -> None:
        """Ends the process."""
        self._connection.send(False)
        self._process.join()
