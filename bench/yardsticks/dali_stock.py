"""The yardstick for our DALI pipeline: the same four-view recipe from DALI's stock parts, after its documentation.

File reader, one decode, and for each view random_resized_crop, flip and, where it is strong, auto_aug's rand_augment
(its own operations and random numbers: near our views in kind and amount of work, not in pixels).
"""

# mypy: disable-error-code="attr-defined"
# (DALI makes its operators and type names when it is imported; its stubs know only some of them.)

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, pipeline_def, types
from nvidia.dali.auto_aug import rand_augment

from bench.four_views import BatchedIndices
from pipelines.augment import ops


@pipeline_def(enable_conditionals=True)
def _graph(files: list[str], indices: list[int], weak: int, strong: int) -> tuple[Any, ...]:
    # Shuffled anew each epoch, so that an epoch is each file once, as it is for the others.
    encoded, index = fn.readers.file(files=files, labels=indices, shuffle_after_epoch=True)
    image = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
    views = []
    for view in range(weak + strong):
        cut = fn.random_resized_crop(
            image, size=(224, 224), random_area=(0.08, 1.0), random_aspect_ratio=(3 / 4, 4 / 3)
        )
        cut = fn.flip(cut, horizontal=fn.random.coin_flip())
        if view >= weak:
            cut = rand_augment.rand_augment(cut, n=ops.DRAWS_PER_VIEW, m=10)
        views.append(cut)
    return *views, index


class StockDali:
    """A pipeline for the labeled and one for the unlabeled stream, two batches ahead, on the CPU."""

    def __init__(self, paths: Sequence[Path], labeled: BatchedIndices, unlabeled: BatchedIndices, threads: int) -> None:
        def build(stream: BatchedIndices, weak: int, strong: int) -> Pipeline:
            indices, batch = stream
            files = [str(paths[index]) for index in indices]
            return _graph(
                files,
                indices.tolist(),
                weak,
                strong,
                batch_size=batch,
                num_threads=threads,
                device_id=None,
                prefetch_queue_depth=2,
            )

        self._pipelines = [build(labeled, weak=1, strong=0), build(unlabeled, weak=2, strong=2)]
        self._steps = len(labeled[0]) // labeled[1]

    def epoch(self) -> NDArray[np.int64]:
        """Loads every batch once and returns the samples' indices."""
        seen = []
        for _ in range(self._steps):
            for pipeline in self._pipelines:
                *_, index = pipeline.run()
                seen.append(np.array(index.as_tensor()).ravel())
        return np.concatenate(seen).astype(np.int64)

    def close(self) -> None:
        """Ends DALI's threads, which live as long as their pipelines."""
        self._pipelines.clear()
