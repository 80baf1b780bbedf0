"""One folder of images, listed once: the stable sample index, the labels and the image sizes.

A sample's *index* is its place in torchvision's sorted ImageFolder listing of the root; everything else in the project
(published index files, orders, plans, label tables, .beton fields) speaks of samples by it. A bad file keeps its index.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines import console
from pipelines.errors import DataError, first_few
from pipelines.names import readable
from pipelines.samples import listing_cache
from pipelines.samples.folder_scan import Scan, scan_folder
from pipelines.samples.image_header import PIXELS_PER_BYTE
from pipelines.samples.image_sizes import find_absurd, read_sizes
from pipelines.samples.path_table import Paths
from pipelines.samples.reading import AS_TORCHVISION, Reading

UNKNOWN = -1
"""Label of a sample whose class is not known, or not to be known."""
_NAMED_FILES = 5
"""How many offending files a message names before it only counts."""


@dataclass(frozen=True, eq=False)
class Listing:
    """Lists ``root/<class>/…`` in torchvision's order, or all images below ``root`` by relative path."""

    root: Path
    classes: tuple[str, ...]  # empty for a folder of unlabeled images
    paths: Sequence[str]  # relative to root, "/"-separated
    labels: NDArray[np.int64]  # [N] the folder each image lies in; all UNKNOWN where that may not be known
    heights: NDArray[np.int32]  # [N] pixels of the image, turned where ``reading`` turns it; 0 for a bad file
    widths: NDArray[np.int32]  # [N]
    bad: dict[int, str] = field(default_factory=dict)  # index → what is wrong with the file
    withheld: str = ""  # digest of the labels that ``without_labels`` took away
    reading: Reading = AS_TORCHVISION  # how every source makes pixels of the files
    part: NDArray[np.int64] | None = None  # the samples that are meant; None: all

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def indices(self) -> NDArray[np.int64]:
        """Returns the index of every sample that is meant, int64 [n]."""
        return np.arange(len(self), dtype=np.int64) if self.part is None else self.part

    def path(self, index: int) -> Path:
        """Returns where the file of sample ``index`` lies."""
        return self.root / self.paths[index]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted relative paths: the same data set has the same one on any machine."""
        return hashlib.sha256(Paths.of(self.paths).block).hexdigest()

    def without_labels(self) -> "Listing":
        """Returns the listing for those who must not know the labels: they are not in it."""
        if self.withheld:
            return self
        return replace(self, labels=np.full(len(self), UNKNOWN, np.int64), withheld=_digest(self.labels))

    def has_labels(self, labels: NDArray[np.int64]) -> bool:
        """Whether the folders' labels are these; a listing without labels can still tell."""
        return _digest(labels) == (self.withheld or _digest(self.labels))


def _digest(labels: NDArray[np.int64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels, "<i8").tobytes()).hexdigest()


def list_images(
    root: Path,
    *,
    labeled: bool = True,
    on_bad: Literal["raise", "keep"] = "raise",
    pixels_per_byte: float = PIXELS_PER_BYTE,
    reading: Reading = AS_TORCHVISION,
) -> Listing:
    """Returns the listing of a folder, with the sizes from the images' headers (remembered in the user's cache folder).

    ``labeled``: ``root`` is an ImageFolder; otherwise its images lie at any depth, and their classes are unknown.
    ``on_bad="keep"``: files that are no images keep their indices, have size 0, and are named in ``bad``.
    ``pixels_per_byte``: a JPEG that claims more pixels for each of its bytes is a bad file, too.
    ``reading``: how the files become pixels; where it turns images, the sizes are those after turning.

    Raises DataError where a folder is missing, empty or unreadable, or (``on_bad="raise"``) a file is no image.
    """
    remedy = "name another with --data, or make the demo's with: python -m debiaspl demo-data"
    scan = scan_folder(root, labeled, remedy)
    widths, heights, bad = _sizes(root, scan, "classes" if labeled else "flat", reading)
    absurd = find_absurd(str(root), scan.names, widths.astype(np.int64) * heights, scan.bytes, pixels_per_byte)
    widths[list(absurd)] = heights[list(absurd)] = 0
    bad = dict(sorted({**bad, **absurd}.items()))
    if bad and on_bad == "raise":
        named = [f"{root}/{readable(scan.names[index])}: {reason}" for index, reason in bad.items()]
        few = first_few(named, _NAMED_FILES, "\n  ")
        raise DataError(f"Not readable as images (remove or replace them):\n  {few}")
    labels = scan.labels if labeled else np.full(len(scan.names), UNKNOWN, np.int64)
    return Listing(root, scan.classes, scan.names, labels, heights, widths, bad, reading=reading)


def _sizes(
    root: Path, scan: Scan, kind: str, reading: Reading
) -> tuple[NDArray[np.int32], NDArray[np.int32], dict[int, str]]:
    """Widths and heights of all images; only headers that are not remembered are read."""
    cache = listing_cache.cache_path(root, f"{kind}, turned" if reading.turns else kind)
    with listing_cache.one_at_a_time(cache):
        old = listing_cache.load(cache)
        changes = ""
        if old is None:
            widths, heights = np.zeros(len(scan.names), np.int32), np.zeros(len(scan.names), np.int32)
        else:
            widths, heights, changes = listing_cache.reuse(old, scan)
        unknown = np.flatnonzero(widths == 0)
        if changes:
            line = f"{root} has changed since it was last listed: {changes}; reading {len(unknown)} headers"
            console.say(line, error=True)
        widths[unknown], heights[unknown], found = read_sizes(
            str(root), [scan.names[index] for index in unknown], turned=reading.turns
        )
        if old is None or changes or len(found) < len(unknown):
            names = np.frombuffer(scan.names.block, np.uint8)
            content = listing_cache.Remembered(names, scan.labels, scan.bytes, scan.times, widths, heights)
            listing_cache.save(cache, content)
    return widths, heights, {int(unknown[index]): reason for index, reason in found.items()}
