"""The slow, obvious reference: Pillow decodes each image once and cuts its views, a few images at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import pillow, policy
from pipelines.augment.policy import Plan
from pipelines.batch import Views
from pipelines.order import Draws, Order
from pipelines.samples.listing import Listing
from pipelines.sources.base import BaseSource
from pipelines.sources.options import Resources
from pipelines.views import EvaluationView, TrainingViews


class TorchvisionSource(BaseSource):
    """A ``pipelines.batch.Source`` over image files."""

    def __init__(
        self, listing: Listing, order: Order, views: TrainingViews | EvaluationView, resources: Resources
    ) -> None:
        super().__init__(listing, order, views, resources)
        # Threads suffice: Pillow's C code releases the GIL.
        self._pool = ThreadPoolExecutor(resources.threads, thread_name_prefix="pillow")

    def __iter__(self) -> Iterator[Views]:
        epoch = self._epoch
        for draws in self._order.groups(epoch, self._consumed):
            yield self._load(self._replacement.screened(draws))
        self.seek(epoch + 1, 0)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _load(self, draws: Draws) -> Views:
        """Returns a group's views on the device."""
        sizes = self._listing.heights[draws.index], self._listing.widths[draws.index]
        plan = policy.plan(self._views, draws, *sizes)
        images = list(self._pool.map(lambda sample: self._cut(draws, plan, sample), range(len(draws.index))))
        failures = {
            index: image for index, image in zip(draws.index.tolist(), images, strict=True) if isinstance(image, str)
        }
        if failures:  # rare: make the whole group again
            return self._load(self._replacement.after(draws, failures))
        pixels = self._host_pixels(len(images))
        np.stack(images, axis=1, out=pixels.numpy())
        return self._handed_over(lambda: self._on_device(pixels, draws.index))

    def _cut(self, draws: Draws, plan: Plan, sample: int) -> NDArray[np.uint8] | str:
        """Returns the sample's views [v, size, size, 3], or what is wrong with its file."""
        image = self._replacement.decoded(int(draws.index[sample]))
        return image if isinstance(image, str) else pillow.execute(image, plan, sample)
