"""What is left of decoding where planes are stored: to upsample chroma and to convert colours, on one thread."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.beton.decode_and_cut import Stored
from pipelines.beton.planes import planes_to_rgb


def converting(content: NDArray[np.uint8], stored: list[Stored], crops: list[NDArray[np.int32]]) -> Callable[[], None]:
    """Returns what makes pixels of all images' planes, as far as their crops [v, n, 4] touch them."""
    rgb = np.empty(3 * max(int((of.height.astype(np.int64) * of.width).max()) for of in stored), np.uint8)

    def work() -> None:
        for of, crop in zip(stored, crops, strict=True):
            for at, (begin, length, height, width) in enumerate(zip(*(part.tolist() for part in of[:4]), strict=True)):
                planes_to_rgb(content[begin : begin + length], of.kind[at], height, width, crop, at, rgb)

    return work
