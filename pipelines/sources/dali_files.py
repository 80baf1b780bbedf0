"""What DALI is handed of one file: the file's own bytes, where it decodes them as Pillow does, or Pillow's pixels.

DALI 2.4 decodes usual JPEGs of every kind as Pillow does. Of the other formats it reads some attributes differently (a
TIFF's orientation, 16 bits, a PPM's maximal value) and decodes all of them on the CPU, GPU or not. So Pillow does that
in the readers' threads, for the same time and without a rule for each attribute.

DALI also decodes some damaged JPEGs that Pillow refuses, and a header that it cannot parse can end the process (a race
in its decoder). So each JPEG's markers are looked at first: some 10 µs for the header and 5 µs for 100 kB of pixels,
one percent of the time to decode them.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.beton.jpeg_scans import is_regular
from pipelines.samples.image_header import jpeg_header, may_be_turned


def usual_jpeg(content: bytes, size: tuple[int, int], *, turns: bool = False) -> NDArray[np.uint8] | None:
    """Returns the bytes [bytes] of a JPEG of ``size`` (width, height) that DALI decodes as Pillow does.

    None for any other file, and for one that is to be turned where the reading ``turns`` images: Pillow does both.
    """
    header = jpeg_header(content)
    if header is None or not (header.plain and header.common) or (header.width, header.height) != size:
        return None
    if turns and may_be_turned(content):
        return None
    return np.frombuffer(content, np.uint8) if is_regular(content, header) else None


def as_ppm(image: Image.Image) -> NDArray[np.uint8]:
    """Returns an RGB image as a file [bytes] that holds its pixels as they are."""
    return np.frombuffer(b"P6\n%d %d\n255\n" % image.size + image.tobytes(), np.uint8)
