"""What the sources have in common: the place in the order, replacement of bad files, the hand-over to a GPU."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipelines.augment import pillow
from pipelines.batch import Views
from pipelines.errors import DataError
from pipelines.names import readable
from pipelines.order import Draws, Order
from pipelines.samples.bad_files import BadFiles
from pipelines.samples.listing import Listing
from pipelines.sources.hand_over import side_stream, take
from pipelines.sources.options import Resources
from pipelines.views import EvaluationView, TrainingViews


class BaseSource:
    """The parts of a ``pipelines.batch.Source`` that do not depend on who reads and decodes."""

    def __init__(
        self,
        listing: Listing,
        order: Order,
        views: TrainingViews | EvaluationView,
        resources: Resources,
    ) -> None:
        self._listing, self._order, self._views, self._resources = listing, order, views, resources
        self._device = torch.device(resources.device)
        self._replacement = Replacement(listing, order, resources.bad_files)
        self._stream = side_stream(self._device)
        self._epoch = self._consumed = 0

    def __len__(self) -> int:
        return len(self._order)

    def seek(self, epoch: int, consumed: int) -> None:
        """Makes the next iteration start in ``epoch``, after its ``consumed`` first samples."""
        self._epoch, self._consumed = epoch, consumed

    def _handed_over(self, make: Callable[[], Views]) -> Views:
        """Returns what ``make`` returns, ready on the caller's current stream; a GPU makes it on the source's own."""
        if self._stream is None:
            return make()
        with torch.cuda.stream(self._stream):
            views = make()
        take(views, self._stream.record_event())
        return views

    def _host_pixels(self, samples: int) -> Tensor:
        """Returns empty views uint8 [v, n, size, size, 3] on the CPU, pinned where a GPU is to copy them."""
        shape = (self._views.count, samples, self._views.size, self._views.size, 3)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self._stream is not None)

    def _on_device(self, pixels: Tensor, index: NDArray[np.int64]) -> Views:
        """Returns views of ``_host_pixels`` on the training device; a GPU copies them while the host goes on.

        To be called within ``_handed_over``.
        """
        indices = torch.from_numpy(index)
        if self._stream is not None:
            indices = indices.pin_memory()  # as the pixels are: other memory is copied while the host waits
        return Views(*(tensor.to(self._device, non_blocking=True) for tensor in (pixels, indices)))


class Replacement:
    """What one source does about bad files; the same in every pipeline."""

    def __init__(self, listing: Listing, order: Order, bad_files: BadFiles | None) -> None:
        self._listing, self._order, self._bad_files = listing, order, bad_files

    def content(self, index: int) -> bytes | str:
        """Returns the file's bytes, or what is wrong with the file as a text."""
        try:
            return self._listing.path(index).read_bytes()
        except OSError as error:
            return str(error)

    def decoded(self, index: int, content: bytes | None = None) -> Image.Image | str:
        """Returns the image as Pillow decodes it, or what is wrong with its file, whose ``content`` may be known."""
        if content is None:
            found = self.content(index)
            if isinstance(found, str):
                return found
            content = found
        try:
            image = pillow.decode_content(content, self._listing.reading)
        except OSError as error:
            return str(error)
        return image if image.size == self.size(index) else "its size has changed since the data was listed"

    def size(self, index: int) -> tuple[int, int]:
        """Returns the width and the height that the listing states."""
        return int(self._listing.widths[index]), int(self._listing.heights[index])

    def screened(self, draws: Draws) -> Draws:
        """Returns a group without the files that are known to be bad."""
        if self._bad_files is None or not self._bad_files.known:
            return draws
        return self._order.replaced(draws, self._bad_files.known) or draws

    def after(self, draws: Draws, failures: Mapping[int, str]) -> Draws:
        """Returns a group without the files that were just found bad (index → reason), to be made again.

        Raises DataError where they are not to be replaced (no BadFiles, too many, evaluation).
        """
        if self._bad_files is None or self._order.replaced(draws, ()) is None:
            for index, reason in failures.items():
                path = readable(self._listing.path(index))
                raise DataError(f"Cannot decode {path}: {reason}. Replace the file or take it out of the data.")
        else:
            self._bad_files.add(failures)
        return self.screened(draws)
