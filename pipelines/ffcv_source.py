"""The ffcv pipeline: one .beton file; compiled code decodes each image once (libturbojpeg) and cuts its views.

ffcv reads the file's tables. Its Loader is not used: the stages it compiles freeze their closures, so a plan that
changes with every sample and epoch would reach them only through memory that they read at run time.

Work is spread by plain Python threads, each calling a compiled function that holds no GIL, not by numba's ``prange``:
two sources run at the same time, numba's default layer aborts the process when two threads enter it, and a slice of
one batch need not wait for the slowest slice of the batch before.
"""

import io
import json
import os
import shlex
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.augment import cpu, gpu, pillow
from pipelines.augment.ops import Op
from pipelines.augment.policy import Plan, plan
from pipelines.augment.randaugment import tables
from pipelines.bad_files import Replacement
from pipelines.batch import Views
from pipelines.decode_and_cut import Stored, decode_and_cut
from pipelines.errors import DataError
from pipelines.listing import Listing
from pipelines.options import SourceOptions
from pipelines.order import Draws, Order
from pipelines.views import EvaluationView, TrainingViews

# Importing ffcv sets the thread counts of torch and numba to 1, which nobody asked for.
_threads_before = torch.get_num_threads(), numba.get_num_threads()
from ffcv.fields import IntField, RGBImageField  # noqa: E402
from ffcv.reader import Reader  # noqa: E402
from ffcv.types import ALLOC_TABLE_TYPE, HeaderType  # noqa: E402

torch.set_num_threads(_threads_before[0])
numba.set_num_threads(_threads_before[1])

_FIELDS = {"image": RGBImageField, "label": IntField, "index": IntField}
_RAW = 1
"""The image field's mode where it holds pixels; where it holds a JPEG, the mode is 0."""


class Beton(NamedTuple):
    """A .beton file opened for reading; its arrays are in the order of the ``index`` field, whatever the rows' is."""

    path: Path
    content: NDArray[np.uint8]  # [bytes] the file, mapped read-only
    stored: Stored  # [N]
    label: NDArray[np.int64]  # [N]


def sidecar_path(beton: Path) -> Path:
    """Where the converter says what it made the file of."""
    return beton.with_name(f"{beton.name}.json")


def open_beton(path: Path) -> Beton:
    """Raises DataError where the file is cut short, is not a .beton, or has other fields than the converter writes."""
    size = path.stat().st_size
    header = np.fromfile(path, HeaderType, count=1)
    if not len(header):
        raise DataError(f"{path} is cut short: it has only {size} bytes.")
    rows, table = int(header[0]["num_samples"]), int(header[0]["alloc_table_ptr"])
    try:
        if not 0 < table <= size - rows * ALLOC_TABLE_TYPE.itemsize:  # the table ends the file: a cut is seen there
            raise DataError(f"its {size} bytes end before its table of images does, so it is cut short")
        reader = Reader(str(path))
        found = {name: type(handler) for name, handler in reader.handlers.items()}
        if found != _FIELDS:
            raise DataError(f"it has the fields {', '.join(found)}, not image, label, index")
        metadata = {name: reader.metadata[f"f{place}"] for place, name in enumerate(found)}
        order = np.argsort(metadata["index"])
        if not np.array_equal(metadata["index"][order], np.arange(rows)):
            raise DataError(f"its index field is not the numbers from 0 to {rows - 1}, each once")
        image = metadata["image"][order]
        by_address = np.sort(reader.alloc_table, order="ptr")
        at = np.searchsorted(by_address["ptr"], image["data_ptr"])
        known = by_address[np.minimum(at, len(by_address) - 1)]
        if np.any(known["ptr"] != image["data_ptr"]) or np.any(known["ptr"] + known["size"] > table):
            raise DataError("it lacks some of the images that it lists")
        raw = image["mode"] == _RAW
        height, width = image["height"].astype(np.int32), image["width"].astype(np.int32)
        if np.any(raw & (known["size"] != 3 * height.astype(np.uint64) * width)):
            raise DataError("some of its raw images do not have the size that it states")
    except (DataError, ValueError, AssertionError, LookupError, OverflowError) as error:  # what ffcv's Reader raises
        raise DataError(f"{path} cannot be used: {error}.") from error
    stored = Stored(known["ptr"].astype(np.int64), known["size"].astype(np.int64), height, width, raw)
    return Beton(path, np.memmap(path, np.uint8, "r"), stored, metadata["label"][order])


def _beton_of(listing: Listing, path: Path | None) -> Beton:
    """The opened .beton, which is that of ``listing`` as far as can be told. Raises DataError where it is not."""
    root = listing.root
    command = f"python tools/convert_imagenet_to_ffcv.py --data {shlex.quote(str(root.parent))} --split {root.name}"
    if path is None or not path.is_file():
        missing = f"There is no file {path}." if path else "The ffcv pipeline reads a .beton file, but none is named."
        raise DataError(f"{missing} Make it with: {command}")
    sidecar = sidecar_path(path)
    try:
        beton = open_beton(path)
        if sidecar.is_file():
            try:
                stated = json.loads(sidecar.read_text())
                fingerprint, size = stated["fingerprint"], stated["bytes"]
            except (ValueError, LookupError, TypeError) as error:
                raise DataError(f"{sidecar} is not what the converter writes: {error!r}.") from error
            if size != len(beton.content):
                raise DataError(f"{path} has {len(beton.content)} bytes, but {sidecar} says {size}.")
            if fingerprint != listing.fingerprint:
                raise DataError(f"{path} was made from other files than those in {root}.")
        else:
            # Still usable (only the .beton was copied, say), but two listings can agree in what is left to compare.
            warnings.warn(f"{sidecar} is missing: {path} is compared by its count and labels only.", stacklevel=3)
        if len(beton.label) != len(listing):
            raise DataError(f"{path} holds {len(beton.label)} images, but {root} has {len(listing)}.")
        if not np.array_equal(beton.label, listing.labels):
            raise DataError(f"{path} has other labels than the folders of {root}.")
    except DataError as error:
        raise DataError(f"{error} Convert again: {command}") from error
    return beton


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
        self._beton = _beton_of(listing, options.beton)
        self._file = self._beton.path.open("rb")
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

    def _start(self, draws: Draws) -> _Batch:
        """Plan a batch and hand its slices to the threads; no slice waits for another one, or another batch's."""
        if self._file.closed:
            raise RuntimeError("The source is closed.")
        stored = self._beton.stored.at(draws.index)
        for offset, length in zip(stored.offset.tolist(), stored.length.tolist(), strict=True):
            # The disk reads all of the batch at once, ahead, not one image after another as the map's pages are missed.
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
        slices = [self._pool.submit(self._fill, pixels.numpy(), draws, stored, here, *bound) for bound in bounds]
        return _Batch(pixels, draws, slices, todo)

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
        self, pixels: NDArray[np.uint8], draws: Draws, stored: Stored, todo: Plan, first: int, last: int
    ) -> dict[int, str]:
        """Write the views of samples first … last - 1 of a batch into its ``pixels`` [v, n, size, size, 3].

        Returns what is wrong with those that cannot be decoded, by listing position.
        """
        failures: dict[int, str] = {}
        failed = np.zeros(len(draws.index), np.bool_)
        decode_and_cut(self._beton.content, stored, todo, self._tables, first, last, pixels, failed)
        for sample in np.flatnonzero(failed).tolist():
            begin = stored.offset[sample]
            jpeg = self._beton.content[begin : begin + stored.length[sample]].tobytes()
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
            with Image.open(io.BytesIO(jpeg)) as opened:
                image = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
            return f"{error} (as stored in {self._beton.path}, which is to be converted again)"
        return image if image.size == size else f"it has {image.size} pixels, but {size} are stated"
