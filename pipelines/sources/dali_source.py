"""NVIDIA DALI reads and decodes, on a GPU cuts too, a few batches ahead; which samples and which cuts is ours to say.

DALI's own file reader and random generators follow nobody's keys, so none is used: a Python callback hands DALI one
group at a time, paths and boxes as ``order.py`` and ``augment/policy.py`` give them, and each sample's index travels
through the pipeline with its pixels.

On a CPU our executor cuts: Pillow's bytes, at a third of the time of DALI's operators (``DaliOptions.cut``).

What DALI does differently from Pillow, measured with DALI 2.4 and Pillow 13:
- Decoding on the CPU: nothing, for JPEG of any kind (4:2:0, 4:2:2, 4:4:4, progressive, grey, CMYK, EXIF rotation
  ignored) and for PNG, BMP, WebP, TIFF and PPM under a JPEG's name. What only Pillow reads, or DALI reads differently
  (GIF, 16-bit PNG), is read from a PNG of Pillow's pixels, made when it is first met.
- Resizing: one grey level in about a fifth of the pixels, because Pillow rounds to uint8 between its two passes and
  DALI does not; more in a crop's outermost pixels where it shrinks, because there DALI repeats the edge pixel under the
  part of the filter that hangs over, and Pillow renormalises. Slice, then resize: the region of interest that
  ``fn.resize`` offers filters over pixels outside the crop.

The GPU half (mixed decoding, resizing, outputs on the caller's stream) was inspected without a GPU, never run.
"""

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipelines.augment import cpu, gpu
from pipelines.augment.policy import Plan
from pipelines.batch import Views
from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.order import Draws, Order
from pipelines.samples.listing import Listing
from pipelines.sources.base import BaseSource
from pipelines.sources.dali_files import is_safe
from pipelines.sources.dali_graph import Inputs, Pipeline, build, decodes
from pipelines.sources.options import DaliOptions, Resources
from pipelines.views import EvaluationView, TrainingViews

_NOWHERE = Path("/nowhere/no header that DALI can be trusted with")


class DaliSource(BaseSource):
    """A ``pipelines.batch.Source`` over image files.

    Batches are prepared ``resources.prefetch`` ahead, past an epoch's end too. After a seek, an abandoned iteration or
    an error they are dropped together with their DALI pipeline, and a new one starts from the order, which alone knows
    what comes next.
    """

    def __init__(
        self,
        listing: Listing,
        order: Order,
        views: TrainingViews | EvaluationView,
        resources: Resources,
        options: DaliOptions | None = None,
    ) -> None:
        super().__init__(listing, order, views, resources)
        self._options = options or DaliOptions()
        self._dali_cuts = self._options.dali_cuts(resources.on_gpu)
        self._copies: dict[int, Path] = {}  # index → the PNG that is read instead of the file
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._readers = ThreadPoolExecutor(resources.threads, thread_name_prefix="dali-headers")
        self._iteration = 0  # counts iterations, so that an old one cannot take a newer one's batches
        self._closed = False
        self._pipeline: Pipeline | None = None
        self._continues: tuple[int, int] | None = None  # the place that the pipeline's next batch belongs to
        self._upcoming: Iterator[Draws] = iter(())  # what to hand to DALI next
        self._ahead: deque[tuple[Draws, Plan]] = deque()  # what DALI has been handed and we have not had back

    def __iter__(self) -> Iterator[Views]:
        if self._closed:
            raise RuntimeError("The source is closed.")
        epoch, consumed = self._epoch, self._consumed
        self._iteration += 1
        iteration = self._iteration
        if self._continues != (epoch, consumed):
            self._drop_pipeline()
            self._upcoming = self._endless(epoch, consumed)
        self._continues = None
        for _ in self._order.groups(epoch, consumed):
            if iteration != self._iteration:
                raise RuntimeError("This iteration was ended by a newer one of the same source, or by close().")
            yield self._handed_over(self._next)
        self.seek(epoch + 1, 0)
        self._continues = (epoch + 1, 0)

    def close(self) -> None:
        """Ends DALI's threads and removes what was written for it."""
        self._closed = True
        self._iteration += 1
        self._drop_pipeline()
        self._readers.shutdown()
        if self._folder is not None:
            self._folder.cleanup()

    def _endless(self, epoch: int, consumed: int) -> Iterator[Draws]:
        """Yields this rank's groups from a place in the order on, through all later epochs."""
        while True:
            yield from self._order.groups(epoch, consumed)
            epoch, consumed = epoch + 1, 0

    def _drop_pipeline(self) -> None:
        self._pipeline = None  # its last reference: DALI's threads end here
        self._ahead.clear()
        self._continues = None

    def _start_pipeline(self) -> Pipeline:
        largest = len(next(self._order.groups(self._epoch, 0)).index)  # only the last group of an epoch may be shorter
        pipeline = build(self._next_inputs, self._views, largest, self._resources, self._options)
        pipeline.schedule_run()  # the first call schedules as many runs as may be ahead
        return pipeline

    def _next_inputs(self) -> Inputs:
        """Returns the next group to DALI, whose callback this is; it is remembered until its pixels come back."""
        draws = self._replacement.screened(next(self._upcoming))
        plan = self._plan(draws)
        self._ahead.append((draws, plan))
        # Side by side: where files are far away, their first reading is a wait.
        parts = self._readers.map(self._paths, np.array_split(draws.index, self._resources.threads))
        paths = list(chain.from_iterable(parts))
        named = [np.frombuffer(path, np.uint8) for path in paths], np.ascontiguousarray(draws.index)
        if not self._dali_cuts:
            return named
        return (
            *named,  # all contiguous: DALI takes no strided arrays
            *np.ascontiguousarray(plan.crop[..., :2]),
            *np.ascontiguousarray(plan.crop[..., 2:]),
            *plan.resized.astype(np.float32),
            *plan.window,
            *plan.flip.astype(np.int32),
        )

    def _paths(self, part: NDArray[np.int64]) -> list[bytes]:
        return [os.fsencode(self._path(index)) for index in part.tolist()]

    def _path(self, index: int) -> Path:
        """Returns what DALI is to read.

        Where that might end the process it is a file that does not exist, for which DALI raises an error.
        """
        if (copy := self._copies.get(index)) is not None:
            return copy
        path = self._listing.path(index)
        return path if is_safe(path) else _NOWHERE  # asked every time: a file can go bad between two epochs

    def _next(self) -> Views:
        """Returns the next group's finished views, made on the side stream where there is one."""
        try:
            self._pipeline = self._pipeline or self._start_pipeline()
            *images, index = self._pipeline.outputs(self._stream)
            if not self._dali_cuts:  # where DALI cuts, it raises for a crop that is out of bounds
                self._require_listed_sizes(images[0], self._ahead[0][0])
            self._pipeline.schedule_run()
        except Exception as error:  # a DALI pipeline is dead after its first error
            suspects = [draws for draws, _ in self._ahead]
            self._drop_pipeline()
            self._replace_bad(suspects, error)
            self._upcoming = chain(suspects, self._upcoming)  # again, now without the bad files
            return self._next()
        draws, plan = self._ahead.popleft()
        came_with = np.array(index.as_tensor())
        assert np.array_equal(came_with, draws.index), "DALI's batches come back in another order than they went in."
        finish = self._collect if self._dali_cuts else self._cut
        return Views(finish(images, plan), torch.from_numpy(came_with).to(self._device))

    def _collect(self, cut: list[Any], plan: Plan) -> Tensor:
        """Returns the views [v, n, size, size, 3] that DALI has cut, the strong ones augmented."""
        shape = (len(cut), plan.crop.shape[1], plan.size, plan.size, 3)
        pixels = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for view, of_view in zip(pixels, cut, strict=True):
            view.copy_(from_dlpack(of_view.as_tensor()))  # the only copy: consumers keep what they are given
        if isinstance(self._views, TrainingViews) and self._views.strong:
            strong = slice(self._views.weak, None)
            _augment(pixels[strong], plan.op[strong], plan.level[strong], self._resources.threads)
        return pixels

    def _cut(self, decoded: list[Any], plan: Plan) -> Tensor:
        """Returns the views [v, n, size, size, 3], cut from the images that DALI has decoded on the CPU."""
        images = [np.asarray(image) for image in decoded[0]]  # DALI's own memory
        pixels = torch.empty((len(plan.crop), len(images), plan.size, plan.size, 3), dtype=torch.uint8)
        cpu.execute_each(images, plan, self._resources.threads, pixels.numpy())
        return pixels.to(self._device)

    def _require_listed_sizes(self, decoded: Any, draws: Draws) -> None:
        """Raises RuntimeError where a size differs: compiled code trusts the plan, and the plan the listing."""
        for image, index in zip(decoded, draws.index.tolist(), strict=True):
            listed = self._listing.heights[index], self._listing.widths[index]
            if tuple(image.shape()[:2]) != listed:
                raise RuntimeError(f"{self._listing.path(index)} is not {listed[0]} × {listed[1]} pixels, as listed.")

    def _replace_bad(self, suspects: list[Draws], error: Exception) -> None:
        """Replaces the files that Pillow cannot decode, and copies to PNG those that only DALI cannot.

        Raises DALI's error where it is about none of the files.
        """
        found = 0
        for draws in suspects:
            failures = {}
            for index in draws.index.tolist():
                image = self._replacement.decoded(index)
                if isinstance(image, str):
                    failures[index] = image
                elif index not in self._copies and not self._decodes(self._path(index)):
                    self._copies[index] = self._copied(index, image)
                    if not self._decodes(self._copies[index]):
                        raise error  # it is not about files
                    found += 1
            self._replacement.after(draws, failures)
            found += len(failures)
        if not found:
            paths = [str(self._listing.path(index)) for draws in suspects for index in draws.index.tolist()]
            error.add_note(f"Pillow and DALI decode each file of the batches in work: {', '.join(paths)}")
            raise error

    def _decodes(self, path: Path) -> bool:
        return decodes(path, self._resources, self._options)

    def _copied(self, index: int, image: Image.Image) -> Path:
        """Writes ``image`` where DALI can read it; raises DataError where there is no room."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="debiaspl-")
        path = Path(self._folder.name, f"{index}.png")
        try:
            image.save(path, compress_level=1)
        except OSError as error:
            raise DataError(
                f"Cannot write {path}, a copy of {readable(self._listing.path(index))} that DALI reads: {error}. "
                "Make room there, or set TMPDIR to another folder."
            ) from error
        return path


def _augment(strong: Tensor, op: NDArray[np.uint8], level: NDArray[np.int8], threads: int) -> None:
    """Applies RandAugment in place to views [v, n, h, w, 3], where they lie; op and level are [v, n, 2]."""
    if strong.is_cuda:  # on the current stream, as the copies before; never run on a GPU
        strong.copy_(gpu.augment_batch(strong, op, level))
    else:
        cpu.augment_batch(strong.numpy(), op, level, threads)
