"""The slow, obvious reference: Pillow decodes each image once and cuts its views, a few images at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.augment import pillow
from pipelines.augment.policy import Plan, plan
from pipelines.batch import Views
from pipelines.order import Draws, Order
from pipelines.samples.bad_files import Replacement
from pipelines.samples.listing import Listing
from pipelines.sources.options import SourceOptions
from pipelines.views import EvaluationView, TrainingViews


class TorchvisionSource:
    """A ``pipelines.batch.Source`` over image files."""

    def __init__(
        self,
        listing: Listing,
        order: Order,
        views: TrainingViews | EvaluationView,
        options: SourceOptions,
    ) -> None:
        self._listing, self._order, self._views, self._device = listing, order, views, options.device
        self._pool = ThreadPoolExecutor(
            options.threads, thread_name_prefix="pillow"
        )  # Pillow's C code releases the GIL
        self._replacement = Replacement(listing, order, options.bad_files)
        self._epoch = self._position = 0

    def __len__(self) -> int:
        return len(self._order)

    def seek(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position

    def __iter__(self) -> Iterator[Views]:
        for draws in self._order.groups(self._epoch, self._position):
            yield self._load(self._replacement.screened(draws))
        self.seek(self._epoch + 1, 0)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _load(self, draws: Draws) -> Views:
        heights, widths = self._listing.heights[draws.index], self._listing.widths[draws.index]
        todo = plan(self._views, self._order.seed, self._order.stream, draws, heights, widths)
        images = list(self._pool.map(lambda sample: self._cut(draws, todo, sample), range(len(draws.index))))
        failures = {
            index: image for index, image in zip(draws.index.tolist(), images, strict=True) if isinstance(image, str)
        }
        if failures:  # rare: make the whole group again
            return self._load(self._replacement.after(draws, failures))
        pixels = torch.from_numpy(np.stack(images, axis=1))
        return Views(pixels.to(self._device), torch.from_numpy(draws.index).to(self._device))

    def _cut(self, draws: Draws, todo: Plan, sample: int) -> NDArray[np.uint8] | str:
        """The sample's views [v, size, size, 3], or what is wrong with its file."""
        image = self._replacement.decoded(int(draws.index[sample]))
        return image if isinstance(image, str) else pillow.execute(image, todo, sample)
