"""Which samples get to be labeled: by percentage, by number, along a long tail, or by a model's confidence.

Each image has a rank within its class, drawn from (seed, class name, relative path): the same on every machine,
whatever other classes there are, and nested, so that the 0.2 % of a seed are among its 1 %.
"""

import hashlib
import os
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines import keyed_random
from pipelines.errors import DataError
from pipelines.keyed_random import Stream
from pipelines.names import readable
from pipelines.samples.listing import Listing


class Chosen(NamedTuple):
    """Sorted indices of the listing's samples."""

    labeled: NDArray[np.int64]
    unlabeled: NDArray[np.int64]


def by_percent(listing: Listing, percent: Fraction, seed: int) -> Chosen:
    """Chooses ``round(percent of the class)`` labels in each class (halves to even), at least one, the rest unlabeled.

    That is how the published 1 % and 0.2 % files were counted.
    """
    if not 0 < percent < 100:
        raise DataError(f"A percentage must lie between 0 and 100 (got {float(percent):g}).")
    sizes = _class_sizes(listing)
    return _heads_and_rest(listing, np.array([max(1, round(percent * int(size) / 100)) for size in sizes]), seed)


def by_count(listing: Listing, per_class: int, seed: int) -> Chosen:
    """Chooses ``per_class`` labels in each class; the rest is unlabeled."""
    if per_class < 1:
        raise DataError(f"At least one label per class is wanted (got {per_class}).")
    return _heads_and_rest(listing, np.full(len(listing.classes), per_class), seed)


def held_back(
    listing: Listing, labeled: NDArray[np.int64], share: float, seed: int, is_sound: Callable[[int], bool]
) -> NDArray[np.int64]:
    """Returns the samples of ``labeled`` that are kept for validation: ``share`` of each class, but at least one.

    Of a class with a single sample none is kept. Samples come by a rank of their own, which a new file does not change;
    those that are not sound are passed over.
    """
    kept: list[int] = []
    for label, name in enumerate(listing.classes):
        members = labeled[listing.labels[labeled] == label]
        wanted = min(max(1, round(share * len(members))), len(members) - 1)
        hashes = np.array([_hash(listing.paths[index]) for index in members.tolist()], np.uint64)
        keys = keyed_random.bits(Stream.HELD_BACK, seed, _hash(name), hashes)
        ranked = members[np.argsort(keys, kind="stable")].tolist()
        kept += islice(filter(is_sound, ranked), max(0, wanted))
    return np.sort(np.asarray(kept, np.int64))


def long_tail(listing: Listing, labeled: NDArray[np.int64], unlabeled: NDArray[np.int64], seed: int) -> Chosen:
    """Chooses ``labeled[c]`` and ``unlabeled[c]`` images of each class c (see ``tail``), and leaves out all others."""
    ranked = _ranked(listing, labeled + unlabeled, seed)
    heads = [order[:count] for order, count in zip(ranked, labeled, strict=True)]
    rest = [order[a : a + b] for order, a, b in zip(ranked, labeled, unlabeled, strict=True)]
    return Chosen(_sorted(heads), _sorted(rest))


def tail(classes: int, head: int, gamma: float, *, reversed_: bool = False) -> NDArray[np.int64]:
    """Returns images per class [classes], in class order: they fall from ``head`` to ``head / gamma``, at least one."""
    if head < 1 or gamma < 1:
        raise DataError(f"A long tail wants a head of at least 1 and an imbalance of at least 1 (got {head}, {gamma}).")
    place = np.arange(classes) / max(1, classes - 1)
    counts = np.maximum(1, np.rint(head * gamma**-place)).astype(np.int64)
    return counts[::-1].copy() if reversed_ else counts


def by_confidence(index: NDArray[np.int64], confidence: NDArray[np.float32], threshold: float) -> Chosen:
    """Chooses the samples of ``index`` with at least ``threshold`` as labeled ones, the others as unlabeled ones."""
    sure = confidence >= np.float32(threshold)
    return Chosen(np.sort(index[sure]), np.sort(index[~sure]))


def _heads_and_rest(listing: Listing, counts: NDArray[np.int64], seed: int) -> Chosen:
    ranked = _ranked(listing, counts, seed)
    heads = [order[:count] for order, count in zip(ranked, counts, strict=True)]
    rest = [order[count:] for order, count in zip(ranked, counts, strict=True)]
    return Chosen(_sorted(heads), _sorted(rest))


def _class_sizes(listing: Listing) -> NDArray[np.int64]:
    if not listing.classes:
        raise DataError(f"{readable(listing.root)} has no class folders to choose from; choose by confidence instead.")
    return np.bincount(listing.labels, minlength=len(listing.classes))


def _ranked(listing: Listing, wanted: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Returns each class's usable images by drawn rank. Raises DataError where there are fewer than ``wanted``."""
    sizes = _class_sizes(listing)
    usable = np.ones(len(listing), bool)
    usable[list(listing.bad)] = False  # a label spent on a file that cannot be read would be lost
    hashes = np.fromiter((_hash(path) for path in listing.paths), np.uint64, len(listing))
    result = []
    for label, (name, end) in enumerate(zip(listing.classes, np.cumsum(sizes), strict=True)):
        members = np.arange(end - sizes[label], end)  # a listing is sorted by class
        members = members[usable[members]]
        if len(members) < wanted[label]:
            raise DataError(
                f"Class {readable(name)} has {len(members)} usable images, but {wanted[label]} are wanted. "
                "Ask for fewer."
            )
        keys = keyed_random.bits(Stream.SUBSETS, seed, _hash(name), hashes[members])
        result.append(members[np.argsort(keys, kind="stable")])
    return result


def _hash(name: str) -> int:
    """Returns 63 bits, the same in every process (Python's own hash is salted)."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "little") >> 1


def _sorted(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.sort(np.concatenate(parts)).astype(np.int64)
