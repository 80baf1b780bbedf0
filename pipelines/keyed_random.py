"""Random numbers without state: a draw is a hash of the words that name it.

There is no generator to advance, seed per worker, save or restore: the same (seed, stream, pass, sample, view, draw)
gives the same number in any thread, rank, batch or pipeline. The hash is SplitMix64 (Steele, Lea & Flood 2014, with
Stafford's mix 13), one round a word. Every number that stands for a purpose in a key is stated in this file.
"""

from enum import IntEnum, unique
from typing import Any

import numpy as np
from numpy.typing import NDArray

Word = int | np.integer[Any] | NDArray[np.integer[Any]]


@unique
class Stream(IntEnum):
    """What a draw is for, as a word of its key beside the seed: draws for different purposes never meet."""

    LABELED = 0  # (seed, stream, pass, sample[, view, draw]): the order and the plans of the labeled samples
    UNLABELED = 1  # the same of the unlabeled ones
    EVALUATION = 2  # nothing is drawn
    DROPOUT = 1000  # (seed, stream, step, group)
    INITIALISATION = 1001  # (seed, stream): the networks' first weights
    SUBSETS = 1002  # (stream, seed, class, file): which samples get labels
    HELD_BACK = 1003  # (stream, seed, class, file): which labeled samples are kept for validation


LARGEST_SEED = 2**64 - 1
"""A seed is one word of a key, and words have 64 bits."""
CONVERSION = 0
"""First word of the key (CONVERSION, index) by which the converter chooses the images to be stored as pixels.

A number in the seed's place, not a stream: the bytes of converted files depend on it.
"""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


def bits(*words: Word) -> NDArray[np.uint64]:
    """Returns 64 random bits for each broadcast combination of non-negative integer ``words``.

    The order of the words matters; the last one is best the one that varies fastest.
    """
    state: Any = np.uint64(0)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        for word in words:
            state = state + (np.asarray(word).astype(np.uint64) + np.uint64(1)) * GOLDEN
            state = (state ^ (state >> np.uint64(30))) * MIX_1
            state = (state ^ (state >> np.uint64(27))) * MIX_2
            state = state ^ (state >> np.uint64(31))
    return np.asarray(state)


def uniform(*words: Word) -> NDArray[np.float64]:
    """Returns floats in [0, 1), multiples of 2**-53, one for each broadcast combination of ``words``."""
    return np.asarray((bits(*words) >> np.uint64(11)) * 2.0**-53)
