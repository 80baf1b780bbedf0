"""NVIDIA DALI decodes, on a GPU cuts too, a few batches ahead; which samples and which cuts is ours to say.

DALI's own file reader and random generators follow nobody's keys, so none is used: a Python callback hands DALI one
group at a time, the files' bytes and boxes as ``order.py`` and ``augment/policy.py`` give them, and each sample's index
travels through the pipeline with its pixels. Threads of ours read each file once and look at its bytes (dali_files.py).

On a CPU our executor cuts: Pillow's bytes, at a third of the time of DALI's operators (``DaliOptions.cut``).

On a GPU, an evaluation is decoded and cut on the CPU all the same (``DaliOptions.decode_evaluation``).

What DALI does differently from Pillow, measured with DALI 2.4 and Pillow 13:
- Decoding on a GPU: not measured. nvJPEG is another decoder than libjpeg-turbo, and nvImageCodec's own tests let the
  two differ by 6 grey levels. Which images go to the hardware engine, a third decoder, depends on the batch.
- Decoding on the CPU: nothing, for a JPEG of any kind (subsampling, progressive, grey). Whatever
  else it reads differently never reaches it: Pillow decodes that, and DALI is handed the pixels.
- Resizing: one grey level in about a fifth of the pixels, because Pillow rounds to uint8 between its two passes and
  DALI does not; more in a crop's outermost pixels where it shrinks, because there DALI repeats the edge pixel under the
  part of the filter that hangs over, and Pillow renormalises. Slice, then resize: the region of interest that
  ``fn.resize`` offers filters over pixels outside the crop.

The GPU half (mixed decoding, resizing, outputs on the caller's stream) was inspected without a GPU, never run.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipelines.augment import compiled_policy, cpu
from pipelines.augment.compiled import Augmenter
from pipelines.augment.policy import Plan
from pipelines.batch import Views
from pipelines.order import Draws, EvaluationOrder, Order
from pipelines.samples.listing import Listing
from pipelines.sources.base import BaseSource
from pipelines.sources.dali_files import as_ppm, usual_jpeg
from pipelines.sources.dali_graph import Inputs, Pipeline, build
from pipelines.sources.options import DaliOptions, Resources
from pipelines.views import EvaluationView, TrainingViews


class DaliSource(BaseSource):
    """A ``pipelines.batch.Source`` over image files.

    Batches are prepared ahead (``resources.prefetch``, on a GPU ``DaliOptions.prefetch``), past an epoch's end too: all
    passes of an evaluation are alike, so the next one's first batches lie ready. After a seek, an abandoned iteration
    or an error they are dropped together with their DALI pipeline, and a new one starts from the order, which alone
    knows what comes next.
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
        self._dali_cuts = self._options.dali_cuts(isinstance(views, EvaluationView), resources.on_gpu)
        self._augment = Augmenter(compile=resources.compile)
        self._refused: set[int] = set()  # samples of batches that DALI could not decode: Pillow decodes them
        self._readers = ThreadPoolExecutor(resources.threads, thread_name_prefix="dali-files")
        self._iteration = 0  # counts iterations, so that an old one cannot take a newer one's batches
        self._closed = False
        self._pipeline: Pipeline | None = None
        self._continues: tuple[int, int] | None = None  # the place that the pipeline's next batch belongs to
        self._upcoming: Iterator[Draws] = iter(())  # what to hand to DALI next
        self._ahead: deque[tuple[Draws, Plan]] = deque()  # what DALI has been handed and we have not had back
        self._failure: Exception | None = None  # of the group after those

    def __iter__(self) -> Iterator[Views]:
        if self._closed:
            raise RuntimeError("The source is closed.")
        epoch, consumed = self._place()
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
        self._continues = self._place()

    def close(self) -> None:
        """Ends DALI's threads and ours."""
        self._closed = True
        self._iteration += 1
        self._drop_pipeline()
        self._readers.shutdown()
        self._augment.close()

    def _place(self) -> tuple[int, int]:
        """Returns the epoch that is sought, 0 for every pass of an evaluation, and the samples consumed of it."""
        return 0 if isinstance(self._order, EvaluationOrder) else self._epoch, self._consumed

    def _endless(self, epoch: int, consumed: int) -> Iterator[Draws]:
        """Yields this rank's groups from a place in the order on, through all later epochs."""
        while True:
            yield from self._order.groups(epoch, consumed)
            epoch, consumed = epoch + 1, 0

    def _drop_pipeline(self) -> None:
        self._pipeline = None  # its last reference: DALI's threads end here
        self._ahead.clear()
        self._failure = self._continues = None

    def _start_pipeline(self) -> Pipeline:
        largest = len(next(self._order.groups(self._epoch, 0)).index)  # only the last group of an epoch may be shorter
        pipeline = build(self._next_inputs, self._views, largest, self._resources, self._options)
        pipeline.schedule_run()  # the first call schedules as many runs as may be ahead
        return pipeline

    def _next_inputs(self) -> Inputs:
        """Returns the next group to DALI, whose callback this is; it is remembered until its pixels come back."""
        drawn = next(self._upcoming)
        try:
            draws, images = self._read(self._replacement.screened(drawn))
        except Exception as error:  # raised in its turn: DALI has good groups at work
            self._failure, self._upcoming = error, chain([drawn], self._upcoming)
            raise StopIteration from None
        sizes = self._listing.heights[draws.index], self._listing.widths[draws.index]
        plan = compiled_policy.plan(self._views, draws, *sizes)
        self._ahead.append((draws, plan))
        named = images, np.ascontiguousarray(draws.index)
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

    def _read(self, draws: Draws) -> tuple[Draws, list[NDArray[np.uint8]]]:
        """Returns the group without bad files, and each sample's encoded image; raises DataError for a bad file."""
        parts = self._readers.map(self._encoded, np.array_split(draws.index, self._resources.threads))
        images = list(chain.from_iterable(parts))
        failures = {index: image for index, image in zip(draws.index.tolist(), images, strict=True)
                    if isinstance(image, str)}  # fmt: skip
        if failures:  # rare: read the whole group again
            return self._read(self._replacement.after(draws, failures))
        return draws, [image for image in images if not isinstance(image, str)]

    def _encoded(self, part: NDArray[np.int64]) -> list[NDArray[np.uint8] | str]:
        """Returns what DALI is to decode of each sample, or what is wrong with its file."""
        return [self._encoded_image(index) for index in part.tolist()]

    def _encoded_image(self, index: int) -> NDArray[np.uint8] | str:
        content = self._replacement.content(index)
        if isinstance(content, str):
            return content
        jpeg = usual_jpeg(content, self._replacement.size(index), turns=self._listing.reading.turns)
        if jpeg is not None and index not in self._refused:
            return jpeg
        image = self._replacement.decoded(index, content)
        return image if isinstance(image, str) else as_ppm(image)

    def _next(self) -> Views:
        """Returns the next group's finished views, made on the side stream where there is one."""
        try:
            self._pipeline = self._pipeline or self._start_pipeline()
            *images, index = self._pipeline.outputs(self._stream if self._dali_cuts else None)
            if not self._dali_cuts:  # where DALI cuts, it raises for a crop that is out of bounds
                self._require_listed_sizes(images[0], self._ahead[0][0])
            self._pipeline.schedule_run()
        except StopIteration:  # the groups before the one that failed are out
            failure = self._failure
            assert failure is not None, "DALI's pipeline ended by itself."
            self._drop_pipeline()
            raise failure from None
        except Exception as error:  # a DALI pipeline is dead after its first error
            suspects = [draws for draws, _ in self._ahead]
            self._drop_pipeline()
            self._leave_to_pillow(suspects, error)
            self._upcoming = chain(suspects, self._upcoming)  # again, decoded by Pillow
            return self._next()
        draws, plan = self._ahead.popleft()
        came_with = np.array(index.as_tensor())
        assert np.array_equal(came_with, draws.index), "DALI's batches come back in another order than they went in."
        finish = self._collect if self._dali_cuts else self._cut
        return self._on_device(finish(images, plan), came_with)

    def _collect(self, cut: list[Any], plan: Plan) -> Tensor:
        """Returns the views [v, n, size, size, 3] that DALI has cut, the strong ones augmented."""
        shape = (len(cut), plan.crop.shape[1], plan.size, plan.size, 3)
        pixels = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for view, of_view in zip(pixels, cut, strict=True):
            view.copy_(from_dlpack(of_view.as_tensor()))  # the only copy: consumers keep what they are given
        if self._stream is not None:
            # DALI frees its buffers, when ``cut`` goes, in the order of its own stream, which knows nothing of the copy
            # on ours. So this thread waits for the copy: DALI works on the next groups meanwhile, and so does the step.
            self._stream.synchronize()
        if isinstance(self._views, TrainingViews) and self._views.strong:
            strong = slice(self._views.weak, None)
            self._augment_strong(pixels[strong], plan.op[strong], plan.level[strong])
        return pixels

    def _augment_strong(self, strong: Tensor, op: NDArray[np.uint8], level: NDArray[np.int8]) -> None:
        """Applies RandAugment in place to views [v, n, h, w, 3], where they lie; op and level are [v, n, 2]."""
        if strong.is_cuda:  # on the current stream, as the copies before; never run on a GPU
            self._augment(strong, op, level)
        else:
            cpu.augment_batch(strong.numpy(), op, level, self._resources.threads)

    def _cut(self, decoded: list[Any], plan: Plan) -> Tensor:
        """Returns the views [v, n, size, size, 3], on the CPU, cut from the images that DALI has decoded there."""
        images = [np.asarray(image) for image in decoded[0]]  # DALI's own memory
        pixels = self._host_pixels(len(images))
        cpu.execute_each(images, plan, self._resources.threads, pixels.numpy())
        return pixels

    def _require_listed_sizes(self, decoded: Any, draws: Draws) -> None:
        """Raises RuntimeError where a size differs: compiled code trusts the plan, and the plan the listing."""
        for image, index in zip(decoded, draws.index.tolist(), strict=True):
            listed = self._listing.heights[index], self._listing.widths[index]
            if tuple(image.shape()[:2]) != listed:
                raise RuntimeError(f"{self._listing.path(index)} is not {listed[0]} × {listed[1]} pixels, as listed.")

    def _leave_to_pillow(self, suspects: list[Draws], error: Exception) -> None:
        """Finds out which samples of the groups in work Pillow is to decode from now on, each decoded once for that.

        DALI does not say which file its error is about: it is those that Pillow refuses, too, or else any of them.
        Raises the error where Pillow decodes them all already.
        """
        indices = list(dict.fromkeys(index for draws in suspects for index in draws.index.tolist()))
        asked = [index for index in indices if index not in self._refused]
        if not asked:
            names = ", ".join(str(self._listing.path(index)) for index in indices)
            error.add_note(f"Pillow decodes each file of the batches in work: {names}")
            raise error
        refused = self._readers.map(lambda index: isinstance(self._replacement.decoded(index), str), asked)
        self._refused.update([index for index, bad in zip(asked, refused, strict=True) if bad] or asked)
