"""What a listing's files are, for a message at the start: turned, transparent, animated, large.

Sizes are known from the listing. The rest is read from files, of many only from some, evenly spaced.
"""

import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.errors import first_few
from pipelines.names import readable
from pipelines.samples.folder_scan import THREADS
from pipelines.samples.image_header import HEAD, jpeg_header, may_be_turned
from pipelines.samples.listing import Listing
from pipelines.samples.reading import orientation_of

_MOST = 5000
"""Files that are looked at."""
_LARGE = 1_000_000
"""Pixels from which a picture is named as large."""
_SHARE = 0.1
"""Share of the decoding that large pictures must take to be worth a line."""
_NAMED = 3


class _Kind(NamedTuple):
    """Holds what one file is."""

    turned: bool = False  # its EXIF asks for a rotation
    transparent: bool = False
    one_colour: bool = False  # all that is left without alpha
    animated: bool = False


def survey(listing: Listing) -> list[str]:
    """Returns lines on files that are not what they seem, a line for each kind that there is, with names."""
    step = max(1, -(-len(listing) // _MOST))
    index = [at for at in listing.indices[::step].tolist() if at not in listing.bad]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="survey") as pool:
        kinds = list(pool.map(lambda at: _kind(str(listing.path(at))), index))
    of = f" of {len(index)} that were looked at" if step > 1 else ""

    def line(kind: str, words: str) -> Iterator[str]:
        found = [at for at, each in zip(index, kinds, strict=True) if getattr(each, kind)]
        if found:
            yield f"{len(found)}{of} {words} ({first_few([readable(listing.paths[at]) for at in found], _NAMED)})"

    reading = listing.reading
    drops = reading.alpha == "drop"
    return [
        *line("turned", f"are rotated by their EXIF, which is {'heeded' if reading.turns else 'ignored'}"),
        *line("transparent", f"are transparent: {'alpha is dropped' if drops else f'shown on {reading.alpha}'}"),
        *line("one_colour", f"{'become' if drops else 'would become'} one colour where alpha is dropped"),
        *line("animated", "are animated: the first frame is taken"),
    ]


def _kind(path: str) -> _Kind:
    """Returns what a file is; nothing special where it cannot be read, which is said elsewhere."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (a listing has many files, and Path is slow)
            head = file.read(HEAD)
        if (header := jpeg_header(head)) is not None and not header.several and not may_be_turned(head):
            return _Kind()
        with Image.open(path) as image:
            animated = bool(getattr(image, "is_animated", False)) and image.format not in ("MPO", "TIFF")
            turned, transparent = orientation_of(image) != 1, image.has_transparency_data
            one_colour = transparent and not np.ptp(np.asarray(image.convert("RGB")), axis=(0, 1)).any()
            return _Kind(turned, transparent, one_colour, animated)
    except Exception:  # Pillow's plug-ins raise whatever the damage makes them raise
        return _Kind()


def large(listing: Listing, size: int) -> str:
    """Returns a line on large pictures and what converting them would save; empty where they take little time.

    ``size``: height and width of a view. The time to decode is estimated from the pixels.
    """
    pixels = listing.heights.astype(np.int64) * listing.widths
    biggest = np.flatnonzero(pixels > _LARGE)
    share = pixels[biggest].sum() / max(1, pixels.sum())
    longest = max(256, 2 * size)
    after = _shrunk(pixels, np.maximum(listing.heights, listing.widths), longest)
    if share < _SHARE or after > pixels.sum() / 2:
        return ""
    biggest = biggest[np.argsort(-pixels[biggest], kind="stable")]
    named = [f"{readable(listing.paths[at])}: {listing.widths[at]} × {listing.heights[at]}" for at in biggest.tolist()]
    root = listing.root
    command = f"python -m debiaspl convert --data {shlex.quote(str(root.parent))} --split {root.name}"
    command += f"{'' if listing.classes else ' --flat'}{listing.reading.flags} --max-resolution {longest}"
    return (
        f"{len(biggest)} pictures have more than {_LARGE / 1e6:g} megapixel ({first_few(named, _NAMED)}) and take "
        f"{share:.0%} of the time to decode all, as estimated from their pixels. Converted to {longest} pixels at most "
        f"(for --pipeline ffcv), all would take {after / pixels.sum():.0%} of that time: {command}"
    )


def _shrunk(pixels: NDArray[np.int64], longest_sides: NDArray[np.int32], longest: int) -> float:
    """Returns the pixels of all pictures, no side of which is longer than ``longest``."""
    scale = np.minimum(1.0, longest / np.maximum(1, longest_sides))
    return float((pixels * scale**2).sum())
