"""How many bytes a conversion will take, estimated from some of the files, and whether the disk has them."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.beton.encoding import Encoding
from pipelines.errors import DataError
from pipelines.files import nearest_folder
from pipelines.names import readable
from pipelines.samples.image_sizes import read_sizes
from pipelines.samples.listing import Listing

_LOOKED_AT = 500
"""Files that the estimate is made from, evenly spaced."""
_JPEG_BYTES, _PLANE_BYTES, _PIXEL_BYTES = 0.35, 1.5, 3.0
"""Bytes per pixel of a JPEG of quality 90, of planes (4:2:0), and of pixels."""


def require_room(listing: Listing, chosen: NDArray[np.int64], encoding: Encoding, beton: Path, written: int) -> None:
    """Raises DataError where the disk cannot hold what is still to be written; ``written`` bytes are there already."""
    folder = nearest_folder(beton.parent)
    needed, free = bytes_needed(listing, chosen, encoding) - written, shutil.disk_usage(folder).free
    if needed > free:
        less = "" if encoding.mode == "jpeg" else "leave out --mode, "
        raise DataError(
            f"{readable(beton)} will take about {needed / 2**30:,.1f} GiB more, but the disk of {readable(folder)} has "
            f"{free / 2**30:,.1f} GiB free. Make room, {less}or store smaller images with --max-resolution."
        )


def bytes_needed(listing: Listing, chosen: NDArray[np.int64], encoding: Encoding) -> int:
    """Returns the bytes that the samples at ``chosen`` will take, as far as some of them tell."""
    some = chosen[:: max(1, -(-len(chosen) // _LOOKED_AT))].tolist()
    names = [listing.paths[index] for index in some]
    widths, heights, bad = read_sizes(str(listing.root), names, turned=encoding.reading.turns)
    whole = [at for at in range(len(names)) if at not in bad]
    each = [_stored(listing.root / names[at], int(widths[at]), int(heights[at]), encoding) for at in whole]
    return int(len(chosen) * sum(each) / max(1, len(names)))


def _stored(path: Path, width: int, height: int, encoding: Encoding) -> float:
    """Returns the bytes that a file of this size in pixels will take."""
    scale = min(1.0, encoding.max_resolution / max(width, height)) if encoding.max_resolution else 1.0
    pixels, jpeg = width * height * scale**2, path.suffix.lower() in (".jpg", ".jpeg")
    if encoding.mode == "planes":
        return pixels * (_PLANE_BYTES if jpeg or scale < 1 else _PIXEL_BYTES)
    kept = pixels * _JPEG_BYTES if scale < 1 else path.stat().st_size if jpeg else pixels * _PIXEL_BYTES
    share = {"raw": 1.0, "proportion": encoding.raw_share}.get(encoding.mode, 0.0)
    return share * pixels * _PIXEL_BYTES + (1 - share) * kept
