"""Makes of a JPEG its planes, where the picture that the pipeline will make of them is Pillow's, byte for byte."""

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import pillow
from pipelines.beton.format import bytes_of
from pipelines.beton.planes import rgb_of
from pipelines.beton.turbojpeg import Decoder
from pipelines.errors import DataError
from pipelines.samples.image_header import Buffer


def planes_of(
    decoder: Decoder, data: Buffer, size: tuple[int, int], compare: bool
) -> tuple[int, NDArray[np.uint8]] | None:
    """Returns the kind and the bytes of a JPEG's planes; None where there are none that give Pillow's pixels.

    ``size`` is (width, height). Without ``compare`` it is not looked whether the planes give the same pixels. Raises
    DataError where the file is damaged.
    """
    found, (width, height) = decoder.planes(np.frombuffer(data, np.uint8)), size
    if found is None or len(found[1]) != bytes_of(found[0], height, width):
        return None
    if compare:
        try:
            expected = np.asarray(pillow.decode_content(bytes(data)))
        except OSError as error:
            raise DataError(f"Pillow cannot decode the image: {error}") from error
        if expected.shape[:2] != (height, width) or not np.array_equal(rgb_of(*found, height, width), expected):
            return None
    return found
