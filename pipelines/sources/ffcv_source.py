"""The ffcv pipeline: one .beton file; compiled code decodes each image once (libturbojpeg) and cuts its views.

ffcv reads the file's tables. Its Loader is not used: the stages it compiles freeze their closures, so a plan that
changes with every sample and epoch would reach them only through memory that they read at run time.

Work is spread by plain Python threads, each calling a compiled function that holds no GIL, not by numba's ``prange``:
two sources run at the same time, numba's default layer aborts the process when two threads enter it, and a slice of
one batch need not wait for the slowest slice of the batch before.
"""

import io
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.augment import cpu, gpu, pillow
from pipelines.augment.ops import Op
from pipelines.augment.policy import Plan, plan
from pipelines.augment.randaugment import tables
from pipelines.batch import Views
from pipelines.beton.decode_and_cut import Stored, decode_and_cut
from pipelines.beton.memory_copy import copy_of
from pipelines.beton.reader import beton_of, left_out
from pipelines.errors import DataError
from pipelines.order import Draws, Order
from pipelines.samples.bad_files import BadFiles, Replacement
from pipelines.samples.listing import Listing
from pipelines.sources.options import SourceOptions
from pipelines.views import EvaluationView, TrainingViews


class _Batch(NamedTuple):
    """One batch in the making."""

    pixels: Tensor  # uint8 [v, n, size, size, 3] on the CPU
    draws: Draws
    slices: list[Future[dict[int, str]]]  # listing position → what is wrong with the stored image
    todo: Plan


class FfcvSource:
    """A ``pipelines.batch.Source`` over a .beton file."""

    def __init__(
        self,
        listing: Listing,
        order: Order,
        views: TrainingViews | EvaluationView,
        options: SourceOptions,
    ) -> None:
        self._listing, self._order, self._views, self._options = listing, order, views, options
        self._beton = beton_of(listing, options.beton)
        self._row = np.full(len(listing), -1, np.int64)  # listing position → place in the .beton's arrays
        self._row[self._beton.position] = np.arange(len(self._beton.position))
        if (asked := getattr(order, "positions", None)) is not None:
            bad = self._left_out(options.bad_files)
            self._rows_of(asked[~np.isin(asked, bad)])  # now rather than after hours of training
        self._file = self._beton.path.open("rb")
        self._copy = copy_of(self._beton.path, options.cache, options.processes)
        self._tables = tables(views.size, views.size)
        self._left: slice | None = None  # the views whose RandAugment is left to the device
        if options.strong_left_to_device and isinstance(views, TrainingViews) and views.strong:
            self._left = slice(views.weak, None)
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="ffcv")
        self._stream = torch.cuda.Stream(options.device) if options.device.type == "cuda" else None
        self._replacement = Replacement(listing, order, options.bad_files)
        self._epoch = self._position = 0

    def __len__(self) -> int:
        return len(self._order)

    def seek(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position

    def __iter__(self) -> Iterator[Views]:
        epoch = self._epoch
        groups = self._order.groups(epoch, self._position)
        started: deque[_Batch] = deque()
        try:
            while True:
                while len(started) <= self._options.prefetch and (draws := next(groups, None)) is not None:
                    started.append(self._start(self._replacement.screened(draws)))
                if not started:
                    break
                yield self._finish(started.popleft())
        finally:  # also where the epoch is cut short: nothing of it runs on
            left = [part for batch in started for part in batch.slices if not part.cancel()]
            wait(left)
        self.seek(epoch + 1, 0)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._file.close()
        self._beton = self._beton._replace(content=np.empty(0, np.uint8))  # the map goes with its last reference
        self._copy = None  # so does the copy

    def _content(self) -> NDArray[np.uint8]:
        """The file's bytes: the copy in memory, if there is one by now, or the map."""
        copied = self._copy.content if self._copy else None
        return self._beton.content if copied is None else copied

    def _start(self, draws: Draws) -> _Batch:
        """Plan a batch and hand its slices to the threads; no slice waits for another one, or another batch's."""
        if self._file.closed:
            raise RuntimeError("The source is closed.")
        stored = self._beton.stored.at(self._rows_of(draws.index))
        content = self._content()
        if content is self._beton.content:
            for offset, length in zip(stored.offset.tolist(), stored.length.tolist(), strict=True):
                # The disk reads all of the batch at once, ahead, not image after image as the map's pages are missed.
                os.posix_fadvise(self._file.fileno(), offset, length, os.POSIX_FADV_WILLNEED)
        todo = plan(self._views, self._order.seed, self._order.stream, draws, stored.height, stored.width)
        todo, count = cpu.compiled(todo), len(draws.index)
        shape = (self._views.count, count, todo.size, todo.size, 3)
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=self._stream is not None)
        parts = min(self._options.threads, count)
        bounds = pairwise(count * part // parts for part in range(parts + 1))
        here = todo
        if self._left is not None:
            here = todo._replace(op=todo.op.copy())
            here.op[self._left] = Op.Identity
        slices = [
            self._pool.submit(self._fill, content, pixels.numpy(), draws, stored, here, *bound) for bound in bounds
        ]
        return _Batch(pixels, draws, slices, todo)

    def _left_out(self, bad_files: BadFiles | None) -> list[int]:
        """Files that the converter had to leave out are bad files, where the source may replace any."""
        if bad_files is None:
            return []
        name = self._beton.path.name
        bad_files.add({index: f"left out of {name}: {why}" for index, why in left_out(self._beton.path).items()})
        return list(bad_files.known)

    def _rows_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in the .beton's arrays. Raises DataError where a sample is not in the file."""
        rows = self._row[positions]
        if len(absent := np.unique(positions[rows < 0])):
            why = left_out(self._beton.path).get(int(absent[0]), "it was not converted")
            raise DataError(
                f"{self._beton.path} lacks {len(absent)} of the samples that are asked for, such as sample "
                f"{absent[0]}, {self._listing.path(int(absent[0]))} ({why}). Replace the files and convert again, or "
                "take them out of the index file."
            )
        return rows

    def _finish(self, batch: _Batch) -> Views:
        """The batch, once all its slices are there, on the training device."""
        failures: dict[int, str] = {}
        for part in batch.slices:
            failures |= part.result()
        if failures:  # rare: make the whole batch again
            return self._finish(self._start(self._replacement.after(batch.draws, failures)))
        device, positions = self._options.device, torch.from_numpy(batch.draws.index)
        if self._stream is None:
            views = Views(batch.pixels.to(device), positions.to(device))
            self._augment_left(views.pixels, batch.todo)
            return views
        # Never run on a GPU so far. Copied beside the computation, which waits for it on the device, not here.
        with torch.cuda.stream(self._stream):
            views = Views(
                batch.pixels.to(device, non_blocking=True), positions.pin_memory().to(device, non_blocking=True)
            )
            self._augment_left(views.pixels, batch.todo)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(self._stream)
        for tensor in views:
            tensor.record_stream(computing)  # its memory is not given to the next copy before it was read
        return views

    def _augment_left(self, pixels: Tensor, todo: Plan) -> None:
        """RandAugment of the views [v, n, h, w, 3] that still lack it, in place, on their device's current stream."""
        if self._left is not None:
            plain = pixels[self._left]
            plain.copy_(gpu.augment_batch(plain, todo.op[self._left], todo.level[self._left]))

    def _fill(
        self,
        content: NDArray[np.uint8],
        pixels: NDArray[np.uint8],
        draws: Draws,
        stored: Stored,
        todo: Plan,
        first: int,
        last: int,
    ) -> dict[int, str]:
        """Write the views of samples first … last - 1 of a batch into its ``pixels`` [v, n, size, size, 3].

        Returns what is wrong with those that cannot be decoded, by listing position.
        """
        failures: dict[int, str] = {}
        failed = np.zeros(len(draws.index), np.bool_)
        decode_and_cut(content, stored, todo, self._tables, first, last, pixels, failed)
        for sample in np.flatnonzero(failed).tolist():
            begin = stored.offset[sample]
            jpeg = content[begin : begin + stored.length[sample]].tobytes()
            size = int(stored.width[sample]), int(stored.height[sample])
            image = self._by_pillow(jpeg, size)
            if isinstance(image, str):
                failures[int(draws.index[sample])] = image
            else:
                pixels[:, sample] = pillow.execute(image, todo, sample)
        return failures

    def _by_pillow(self, jpeg: bytes, size: tuple[int, int]) -> Image.Image | str:
        """The image that libturbojpeg did not decode, as Pillow has it, which is the reference; or what is wrong.

        libturbojpeg also refuses what libjpeg merely warns of: a stray byte before a marker, which ImageNet has.
        """
        try:
            image = pillow.decode_file(io.BytesIO(jpeg))
        except OSError as error:
            return f"{error} (as stored in {self._beton.path}, which is to be converted again)"
        return image if image.size == size else f"it has {image.size} pixels, but {size} are stated"
