"""The ffcv pipeline: one .beton file; compiled code decodes each image once (libturbojpeg) and cuts its views.

FFCV's own Loader is not used: the stages it compiles freeze their closures, so a plan that changes with every sample
and epoch would reach them only through memory that they read at run time.

Work is spread by plain Python threads, each calling a compiled function that holds no GIL, not by numba's ``prange``:
two sources run at the same time, numba's default layer aborts the process when two threads enter it, and a slice of
one batch need not wait for the slowest slice of the batch before.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.augment import compiled_policy, pillow
from pipelines.augment.compiled import Augmenter
from pipelines.augment.operation_tables import operation_tables
from pipelines.augment.ops import Op
from pipelines.augment.policy import Plan
from pipelines.batch import Views
from pipelines.beton import turbojpeg
from pipelines.beton.decode_and_cut import Stored, decode_and_cut
from pipelines.beton.format import JPEG
from pipelines.beton.memory_copy import copy_of
from pipelines.beton.reader import beton_of, left_out
from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.order import Draws, Order
from pipelines.samples.listing import Listing
from pipelines.sources.base import BaseSource
from pipelines.sources.options import FfcvOptions, Resources
from pipelines.views import EvaluationView, TrainingViews


class _Batch(NamedTuple):
    """One batch in the making."""

    pixels: Tensor  # uint8 [v, n, size, size, 3] on the CPU
    draws: Draws
    slices: list[Future[dict[int, str]]]  # index → what is wrong with the stored image
    plan: Plan


class FfcvSource(BaseSource):
    """A ``pipelines.batch.Source`` over a .beton file."""

    def __init__(
        self,
        listing: Listing,
        order: Order,
        views: TrainingViews | EvaluationView,
        resources: Resources,
        options: FfcvOptions | None = None,
    ) -> None:
        super().__init__(listing, order, views, resources)
        options = options or FfcvOptions()
        self._beton = beton_of(listing, resources.beton)
        self._row_of = np.full(len(listing), -1, np.int64)  # index → row of the .beton's arrays
        self._row_of[self._beton.index] = np.arange(len(self._beton.index))
        self._rows(order.indices[~np.isin(order.indices, self._left_out())])  # now rather than after hours of training
        self._require_decoder(order.indices)
        self._file = self._beton.path.open("rb")
        self._copy = copy_of(self._beton.path, options.cache, resources.processes)
        self._tables = operation_tables(views.size, views.size)
        self._left: slice | None = None  # the views whose RandAugment is left to the device
        if options.strong_left_to_device(resources) and isinstance(views, TrainingViews) and views.strong:
            self._left = slice(views.weak, None)
        self._augment = Augmenter(compile=resources.on_gpu and resources.compile)
        self._pool = ThreadPoolExecutor(resources.threads, thread_name_prefix="ffcv")

    def __iter__(self) -> Iterator[Views]:
        epoch = self._epoch
        groups = self._order.groups(epoch, self._consumed)
        started: deque[_Batch] = deque()
        try:
            while True:
                while len(started) <= self._resources.prefetch and (draws := next(groups, None)) is not None:
                    started.append(self._start(self._replacement.screened(draws)))
                if not started:
                    break
                yield self._finish(started.popleft())
        finally:  # also where the epoch is cut short: nothing of it runs on
            left = [part for batch in started for part in batch.slices if not part.cancel()]
            wait(left)
        self.seek(epoch + 1, 0)

    def close(self) -> None:
        """Ends the threads and gives back the file and its copy in memory."""
        self._pool.shutdown(cancel_futures=True)
        self._augment.close()
        self._file.close()
        self._beton = self._beton._replace(content=np.empty(0, np.uint8))  # the map goes with its last reference
        self._copy = None  # so does the copy

    def _require_decoder(self, indices: NDArray[np.int64]) -> None:
        """Raises MissingDependency where some of the samples are JPEGs, and libturbojpeg is not installed."""
        rows = self._row_of[indices]
        if (self._beton.stored.kind[rows[rows >= 0]] == JPEG).any():
            turbojpeg.library()

    def _content(self) -> NDArray[np.uint8]:
        """Returns the file's bytes: the copy in memory, if there is one by now, or the map."""
        copied = self._copy.content if self._copy else None
        return self._beton.content if copied is None else copied

    def _start(self, draws: Draws) -> _Batch:
        """Plans a batch and hands its slices to the threads; no slice waits for another one, or another batch's."""
        if self._file.closed:
            raise RuntimeError("The source is closed.")
        stored = self._beton.stored.at(self._rows(draws.index))
        content = self._content()
        if content is self._beton.content:
            for offset, length in zip(stored.offset.tolist(), stored.length.tolist(), strict=True):
                # The disk reads all of the batch at once, ahead, not image after image as the map's pages are missed.
                os.posix_fadvise(self._file.fileno(), offset, length, os.POSIX_FADV_WILLNEED)
        plan, count = compiled_policy.plan(self._views, draws, stored.height, stored.width), len(draws.index)
        pixels = self._host_pixels(count)
        parts = min(self._resources.threads, count)
        bounds = pairwise(count * part // parts for part in range(parts + 1))
        here = plan
        if self._left is not None:
            here = plan._replace(op=plan.op.copy())
            here.op[self._left] = Op.Identity
        slices = [
            self._pool.submit(self._fill, content, pixels.numpy(), draws, stored, here, *bound) for bound in bounds
        ]
        return _Batch(pixels, draws, slices, plan)

    def _left_out(self) -> list[int]:
        """Returns the indices that need not be in the file: bad files, those that the converter left out among them."""
        bad_files = self._resources.bad_files
        if bad_files is None:
            return []
        name = self._beton.path.name
        bad_files.add({index: f"left out of {name}: {why}" for index, why in left_out(self._beton.path).items()})
        return list(bad_files.known)

    def _rows(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the samples' rows; raises DataError where a sample is not in the file."""
        rows = self._row_of[indices]
        if len(absent := np.unique(indices[rows < 0])):
            why = left_out(self._beton.path).get(int(absent[0]), "it was not converted")
            name = readable(self._listing.path(int(absent[0])))
            raise DataError(
                f"{readable(self._beton.path)} lacks {len(absent)} of the samples that are asked for, such as sample "
                f"{absent[0]}, {name} ({why}). Replace the files and convert again, or "
                "take them out of the index file."
            )
        return rows

    def _finish(self, batch: _Batch) -> Views:
        """Returns the batch on the training device, once all its slices are there."""
        failures: dict[int, str] = {}
        for part in batch.slices:
            failures |= part.result()
        if failures:  # rare: make the whole batch again
            return self._finish(self._start(self._replacement.after(batch.draws, failures)))
        return self._handed_over(lambda: self._copied(batch))

    def _copied(self, batch: _Batch) -> Views:
        """Returns a batch's views on the device, which has augmented those that were left to it."""
        views = self._on_device(batch.pixels, batch.draws.index)
        self._augment_left(views.pixels, batch.plan)
        return views

    def _augment_left(self, pixels: Tensor, plan: Plan) -> None:
        """Applies RandAugment in place to the views [v, n, h, w, 3] that still lack it, on the current stream."""
        if self._left is not None:
            self._augment(pixels[self._left], plan.op[self._left], plan.level[self._left])

    def _fill(
        self,
        content: NDArray[np.uint8],
        pixels: NDArray[np.uint8],
        draws: Draws,
        stored: Stored,
        plan: Plan,
        first: int,
        last: int,
    ) -> dict[int, str]:
        """Writes the views of samples first … last - 1 of a batch into its ``pixels`` [v, n, size, size, 3].

        Returns what is wrong with those that cannot be decoded, by index.
        """
        failures: dict[int, str] = {}
        failed = np.zeros(len(draws.index), np.bool_)
        decode_and_cut(content, stored, plan, self._tables, first, last, pixels, failed)
        for sample in np.flatnonzero(failed).tolist():
            begin = stored.offset[sample]
            jpeg = content[begin : begin + stored.length[sample]].tobytes()
            size = int(stored.width[sample]), int(stored.height[sample])
            image = self._by_pillow(jpeg, size)
            if isinstance(image, str):
                failures[int(draws.index[sample])] = image
            else:
                pixels[:, sample] = pillow.execute(image, plan, sample)
        return failures

    def _by_pillow(self, jpeg: bytes, size: tuple[int, int]) -> Image.Image | str:
        """Returns the image as Pillow, which is the reference, decodes it; or what is wrong.

        libturbojpeg, which did not decode it, also refuses what libjpeg merely warns of, such as a stray byte before a
        marker, which ImageNet has.
        """
        try:
            image = pillow.decode_content(jpeg)
        except OSError as error:
            return f"{error} (as stored in {self._beton.path}, which is to be converted again)"
        return image if image.size == size else f"it has {image.size} pixels, but {size} are stated"
