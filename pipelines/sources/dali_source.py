"""NVIDIA DALI reads and decodes, on a GPU cuts too, a few batches ahead; which samples and which cuts is ours to say.

DALI's own file reader and random generators follow nobody's keys, so none is used: a Python callback hands DALI one
group at a time, paths and boxes as ``order.py`` and ``augment/policy.py`` give them, and the listing positions travel
through the pipeline with the pixels.

On a CPU our executor cuts: Pillow's bytes, at a third of the time of DALI's operators (``options.dali_cut``).

What DALI does differently from Pillow, measured with DALI 2.4 and Pillow 13:
- Decoding on the CPU: nothing, for JPEG of any kind (4:2:0, 4:2:2, 4:4:4, progressive, grey, CMYK, EXIF rotation
  ignored) and for PNG, BMP, WebP, TIFF and PPM under a JPEG's name. What only Pillow reads, or DALI reads differently
  (GIF, 16-bit PNG), is read from a PNG of Pillow's pixels, made when it is first met.
- Resizing: one grey level in about a fifth of the pixels, because Pillow rounds to uint8 between its two passes and
  DALI does not; more in a crop's outermost pixels where it shrinks, because there DALI repeats the edge pixel under the
  part of the filter that hangs over, and Pillow renormalises. Slice, then resize: the region of interest that
  ``fn.resize`` offers filters over pixels outside the crop.

The GPU half (mixed decoding, resizing on the GPU, outputs on the caller's stream) was defined and inspected on a
machine without a GPU, never run.
"""
# mypy: disable-error-code="attr-defined"
# (DALI makes its operators and type names when it is imported; its stubs know only some of them.)

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, types
from nvidia.dali.data_node import DataNode
from PIL import Image
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipelines.augment import cpu, gpu
from pipelines.augment.policy import Plan, plan
from pipelines.batch import Views
from pipelines.errors import DataError
from pipelines.order import Draws, Order
from pipelines.samples.bad_files import Replacement
from pipelines.samples.listing import Listing
from pipelines.sources.dali_files import is_safe
from pipelines.sources.options import SourceOptions
from pipelines.views import EvaluationView, TrainingViews

Inputs = tuple[list[NDArray[np.uint8]] | NDArray[np.generic], ...]
"""One group as ``graph`` takes it: paths, index [n], then v arrays each of crop corner [n, 2], crop extent [n, 2],
resized [n, 2], window [n, 2] and flip [n]."""
_NOWHERE = Path("/nowhere/no header that DALI can be trusted with")


class DaliSource:
    """A ``pipelines.batch.Source`` over image files.

    Batches are prepared ``options.prefetch`` ahead, past an epoch's end too. After a seek, an abandoned iteration or an
    error they are dropped together with their DALI pipeline, and a new one starts from the order, which alone knows
    what comes next.
    """

    def __init__(
        self,
        listing: Listing,
        order: Order,
        views: TrainingViews | EvaluationView,
        options: SourceOptions,
    ) -> None:
        self._listing, self._order, self._views, self._options = listing, order, views, options
        self._replacement = Replacement(listing, order, options.bad_files)
        self._stand_ins: dict[int, Path] = {}  # listing position → the PNG that is read instead
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._readers = ThreadPoolExecutor(options.threads, thread_name_prefix="dali-headers")
        self._stream = torch.cuda.Stream(options.device) if options.device.type == "cuda" else None
        self._epoch = self._position = 0
        self._iteration = 0  # counts iterations, so that an old one cannot take a newer one's batches
        self._closed = False
        self._pipeline: Pipeline | None = None
        self._continues: tuple[int, int] | None = None  # the place that the pipeline's next batch belongs to
        self._upcoming: Iterator[Draws] = iter(())  # what to hand to DALI next
        self._ahead: deque[tuple[Draws, Plan]] = deque()  # what DALI has been handed and we have not had back

    def __len__(self) -> int:
        return len(self._order)

    def seek(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position

    def __iter__(self) -> Iterator[Views]:
        if self._closed:
            raise RuntimeError("The source is closed.")
        epoch, position = self._epoch, self._position
        self._iteration += 1
        iteration = self._iteration
        if self._continues != (epoch, position):
            self._drop_pipeline()
            self._upcoming = self._endless(epoch, position)
        self._continues = None
        for _ in self._order.groups(epoch, position):
            if iteration != self._iteration:
                raise RuntimeError("This iteration was ended by a newer one of the same source, or by close().")
            yield self._next()
        self.seek(epoch + 1, 0)
        self._continues = (epoch + 1, 0)

    def close(self) -> None:
        self._closed = True
        self._iteration += 1
        self._drop_pipeline()
        self._readers.shutdown()
        if self._folder is not None:
            self._folder.cleanup()

    def _endless(self, epoch: int, position: int) -> Iterator[Draws]:
        """This rank's groups from a place on, through all later epochs."""
        while True:
            yield from self._order.groups(epoch, position)
            epoch, position = epoch + 1, 0

    def _drop_pipeline(self) -> None:
        self._pipeline = None  # its last reference: DALI's threads end here
        self._ahead.clear()
        self._continues = None

    def _start_pipeline(self) -> Pipeline:
        largest = len(next(self._order.groups(self._epoch, 0)).index)  # only the last group of an epoch may be shorter
        pipeline = build(self._hand_over, self._views, largest, self._options)
        pipeline.schedule_run()  # the first call schedules as many runs as may be ahead
        return pipeline

    def _hand_over(self) -> Inputs:
        """DALI's callback: the next group, remembered until its pixels come back."""
        draws = self._replacement.screened(next(self._upcoming))
        heights, widths = self._listing.heights[draws.index], self._listing.widths[draws.index]
        todo = plan(self._views, self._order.seed, self._order.stream, draws, heights, widths)
        self._ahead.append((draws, todo))
        # Side by side: where files are far away, their first reading is a wait.
        parts = self._readers.map(self._paths, np.array_split(draws.index, self._options.threads))
        paths = list(chain.from_iterable(parts))
        named = [np.frombuffer(path, np.uint8) for path in paths], np.ascontiguousarray(draws.index)
        if not self._options.dali_cuts:
            return named
        return (
            *named,  # all contiguous: DALI takes no strided arrays
            *np.ascontiguousarray(todo.crop[..., :2]),
            *np.ascontiguousarray(todo.crop[..., 2:]),
            *todo.resized.astype(np.float32),
            *todo.window,
            *todo.flip.astype(np.int32),
        )

    def _paths(self, part: NDArray[np.int64]) -> list[bytes]:
        return [os.fsencode(self._path(index)) for index in part.tolist()]

    def _path(self, index: int) -> Path:
        """What DALI is to read; where that might end the process, a file that is not there: an error that it raises."""
        if (stand_in := self._stand_ins.get(index)) is not None:
            return stand_in
        path = self._listing.path(index)
        return path if is_safe(path) else _NOWHERE  # asked every time: a file can go bad between two epochs

    def _next(self) -> Views:
        """The next group's finished views."""
        if self._stream is None:
            return self._finished(None)
        # Never run on a GPU so far. Made beside the computation, which waits for it on the device, not here.
        with torch.cuda.stream(self._stream):
            views = self._finished(self._stream)
        computing = torch.cuda.current_stream(self._options.device)
        computing.wait_stream(self._stream)
        for tensor in views:
            tensor.record_stream(computing)  # its memory is not given to the next copy before it was read
        return views

    def _finished(self, stream: torch.cuda.Stream | None) -> Views:
        try:
            self._pipeline = self._pipeline or self._start_pipeline()
            *images, index = self._pipeline.outputs(stream)
            if not self._options.dali_cuts:  # where DALI cuts, it raises for a crop that is out of bounds
                self._require_listed_sizes(images[0], self._ahead[0][0])
            self._pipeline.schedule_run()
        except Exception as error:  # a DALI pipeline is dead after its first error
            suspects = [draws for draws, _ in self._ahead]
            self._drop_pipeline()
            self._replace_bad(suspects, error)
            self._upcoming = chain(suspects, self._upcoming)  # again, now without the bad files
            return self._finished(stream)
        draws, todo = self._ahead.popleft()
        came_with = np.array(index.as_tensor())
        assert np.array_equal(came_with, draws.index), "DALI's batches come back in another order than they went in."
        finish = self._collect if self._options.dali_cuts else self._cut
        return Views(finish(images, todo), torch.from_numpy(came_with).to(self._options.device))

    def _collect(self, cut: list[Any], todo: Plan) -> Tensor:
        """The views [v, n, size, size, 3] that DALI has cut, the strong ones augmented."""
        shape = (len(cut), todo.crop.shape[1], todo.size, todo.size, 3)
        pixels = torch.empty(shape, dtype=torch.uint8, device=self._options.device)
        for view, of_view in zip(pixels, cut, strict=True):
            view.copy_(from_dlpack(of_view.as_tensor()))  # the only copy: consumers keep what they are given
        if isinstance(self._views, TrainingViews) and self._views.strong:
            strong = slice(self._views.weak, None)
            _augment(pixels[strong], todo.op[strong], todo.level[strong], self._options.threads)
        return pixels

    def _cut(self, decoded: list[Any], todo: Plan) -> Tensor:
        """The views [v, n, size, size, 3] cut from the images that DALI has decoded on the CPU."""
        images = [np.asarray(image) for image in decoded[0]]  # DALI's own memory
        pixels = torch.empty((len(todo.crop), len(images), todo.size, todo.size, 3), dtype=torch.uint8)
        cpu.execute_each(images, todo, self._options.threads, pixels.numpy())
        return pixels.to(self._options.device)

    def _require_listed_sizes(self, decoded: Any, draws: Draws) -> None:
        """Compiled code trusts the plan, and the plan the listing."""
        for image, index in zip(decoded, draws.index.tolist(), strict=True):
            listed = self._listing.heights[index], self._listing.widths[index]
            if tuple(image.shape()[:2]) != listed:
                raise RuntimeError(f"{self._listing.path(index)} is not {listed[0]} × {listed[1]} pixels, as listed.")

    def _replace_bad(self, suspects: list[Draws], error: Exception) -> None:
        """Have the files replaced that Pillow cannot decode, and stand-ins made for those that only DALI cannot.

        Raises DALI's error where it is about none of the files.
        """
        found = 0
        for draws in suspects:
            failures = {}
            for index in draws.index.tolist():
                image = self._replacement.decoded(index)
                if isinstance(image, str):
                    failures[index] = image
                elif index not in self._stand_ins and not decodes(self._path(index), self._options):
                    self._stand_ins[index] = self._stand_in(index, image)
                    if not decodes(self._stand_ins[index], self._options):
                        raise error  # it is not about files
                    found += 1
            self._replacement.after(draws, failures)
            found += len(failures)
        if not found:
            paths = [str(self._listing.path(index)) for draws in suspects for index in draws.index.tolist()]
            error.add_note(f"Pillow and DALI decode each file of the batches in work: {', '.join(paths)}")
            raise error

    def _stand_in(self, index: int, image: Image.Image) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="debiaspl-")
        path = Path(self._folder.name, f"{index}.png")
        try:
            image.save(path, compress_level=1)
        except OSError as error:
            raise DataError(
                f"Cannot write {path}, a copy of {self._listing.path(index)} that DALI reads: {error}. "
                "Make room there, or set TMPDIR to another folder."
            ) from error
        return path


def build(
    feed: Callable[[], Inputs], views: TrainingViews | EvaluationView, largest: int, options: SourceOptions
) -> Pipeline:
    """The pipeline that runs ``graph`` on groups of at most ``largest`` samples."""
    pipeline = Pipeline(
        batch_size=largest,
        num_threads=options.threads,
        device_id=_device_id(options),
        prefetch_queue_depth=options.prefetch,
    )
    with pipeline:
        pipeline.set_outputs(*graph(feed, views, options))
    return pipeline


def _device_id(options: SourceOptions) -> int | None:
    if options.device.type != "cuda":
        return None
    return torch.cuda.current_device() if options.device.index is None else options.device.index


def decodes(path: Path, options: SourceOptions) -> bool:
    """Whether DALI decodes one file: asked only after an error, of which DALI does not say which file it is about."""
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=_device_id(options), prefetch_queue_depth=1)
    with pipeline:
        name = fn.external_source(
            lambda: [np.frombuffer(os.fsencode(path), np.uint8)], batch=True, dtype=types.UINT8, ndim=1
        )
        pipeline.set_outputs(_decode(fn.io.file.read(name), options))
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True


def graph(
    feed: Callable[[], Inputs], views: TrainingViews | EvaluationView, options: SourceOptions
) -> tuple[DataNode, ...]:
    """v views, each uint8 HWC on the source's device, and the index [n], of the groups that ``feed`` returns.

    Where DALI does not cut: the decoded images and the index.

    The GPU variant was never run; it can be defined and serialized anywhere.
    """
    if not options.dali_cuts:
        path, index = fn.external_source(feed, num_outputs=2, batch=True, dtype=[types.UINT8, types.INT64], ndim=[1, 0])
        return _decode(fn.io.file.read(path), options), index
    v = views.count
    path, index, *cuts = fn.external_source(
        feed,
        num_outputs=2 + 5 * v,
        batch=True,
        dtype=[types.UINT8, types.INT64, *2 * v * [types.INT32], *v * [types.FLOAT], *2 * v * [types.INT32]],
        ndim=[1, 0, *4 * v * [1], *v * [0]],
    )
    image = _decode(fn.io.file.read(path), options)  # once, for all views
    finished = []
    for corner, extent, resized, window, flip in zip(*(cuts[k * v : (k + 1) * v] for k in range(5)), strict=True):
        cut = fn.slice(image, start=corner, shape=extent, axes=(0, 1))
        scaled: Any = fn.resize(cut, size=resized, interp_type=types.INTERP_LINEAR, antialias=True, dtype=types.UINT8)
        upright = fn.slice(scaled, start=window, shape=(views.size, views.size), axes=(0, 1))
        finished.append(fn.flip(upright, horizontal=flip))
    return *finished, index


def _decode(encoded: DataNode, options: SourceOptions) -> DataNode:
    """RGB, as Pillow decodes: the accurate inverse DCT, smooth chroma, EXIF rotation ignored."""
    if options.device.type != "cuda" or not options.dali_cuts:
        return fn.decoders.image(encoded, device="cpu", output_type=types.RGB, adjust_orientation=False)
    return fn.decoders.image(
        encoded,
        device="mixed",
        output_type=types.RGB,
        adjust_orientation=False,
        jpeg_fancy_upsampling=True,
        hw_decoder_load=options.dali_hw_decoder_load,
        device_memory_padding=options.dali_preallocate_mb << 20,
        host_memory_padding=options.dali_preallocate_mb << 19,  # DALI allocates two of these per thread
    )


def _augment(strong: Tensor, op: NDArray[np.uint8], level: NDArray[np.int8], threads: int) -> None:
    """RandAugment in place on views [v, n, h, w, 3], where they are; op and level [v, n, 2]."""
    if strong.is_cuda:  # on the current stream, as the copies before; never run on a GPU
        strong.copy_(gpu.augment_batch(strong, op, level))
    else:
        cpu.augment_batch(strong.numpy(), op, level, threads)
