"""Keyed random numbers: the same ones everywhere, uniform, and unrelated to each other whichever word differs."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import keyed_random
from pipelines.beton.one_image import Encoding

DRAWS = 100_000
# The words (seed, stream, pass, sample, view, draw) of a usual key, and one of them running.
KEY = (3, 1, 7, 1_000, 2, 5)
RUNNING = pytest.mark.parametrize("word", range(len(KEY)), ids=("seed", "stream", "pass", "sample", "view", "draw"))


def running(word: int, of: int = DRAWS) -> list[int | NDArray[np.int64]]:
    """KEY with one word replaced by 0 … of - 1."""
    return [np.arange(of) if place == word else value for place, value in enumerate(KEY)]


def by_the_book(*words: int) -> int:
    """SplitMix64 in Python's own integers."""
    state, mask = 0, 2**64 - 1
    for word in words:
        state = (state + (word + 1) * 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state


def chi_square(counts: NDArray[np.int64]) -> float:
    """How many standard deviations the statistic of equally likely cells lies above its mean."""
    expected, freedom = counts.sum() / counts.size, counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((0,), 0xE220A8397B1DCDAF),  # the published generator's first number from state 0
        ((0, 0), 0xA706DD2F4D197E6F),
        ((1, 2, 3), 0x27D1DADE99DDF6A4),
        ((3, 2, 1), 0x84C9C5AD0C2C0BE3),
        ((5, 3), 0x6BA111F4A00F6169),
        ((2**63 - 1,), 0x25C26EA579CEA98A),
    ],
)
def test_pinned_bits(words: tuple[int, ...], expected: int) -> None:
    assert int(keyed_random.bits(*words)) == expected == by_the_book(*words)


def test_pinned_float() -> None:
    assert float(keyed_random.uniform(7, 1, 0, 42, 3)).hex() == "0x1.a2794d0a5180cp-3"


def test_the_hash_is_splitmix() -> None:
    rng = np.random.default_rng(0)
    for count in range(1, 7):
        words = rng.integers(0, 2**62, count).tolist()
        assert int(keyed_random.bits(*words)) == by_the_book(*words)


def test_floats_are_the_upper_53_bits() -> None:
    numbers = keyed_random.uniform(*running(5))
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers * 2**53, (keyed_random.bits(*running(5)) >> np.uint64(11)).astype(np.float64))
    assert numbers.min() >= 0
    assert numbers.max() < 1


@RUNNING
def test_uniform_along_every_word(word: int) -> None:
    numbers = keyed_random.uniform(*running(word))
    counts = np.bincount((numbers * 1000).astype(int), minlength=1000)
    assert counts.size == 1000
    assert abs(chi_square(counts)) < 3.5
    # The mean's standard deviation is 0.00091, the second moment's 0.00094.
    assert numbers.mean() == pytest.approx(1 / 2, abs=0.003)
    assert (numbers**2).mean() == pytest.approx(1 / 3, abs=0.003)


@RUNNING
def test_every_bit_is_a_fair_coin(word: int) -> None:
    drawn = keyed_random.bits(*running(word))
    share = ((drawn[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).mean(0)
    assert np.abs(share - 0.5).max() < 0.007  # the standard deviation is 0.0016
    assert len(np.unique(drawn)) == DRAWS


@RUNNING
def test_neighbours_are_independent(word: int) -> None:
    """Pairs of neighbours fill a grid of cells evenly; for sample and view this is across crops of a batch."""
    numbers = keyed_random.uniform(*running(word, DRAWS + 8))
    for lag in (1, 2, 8):
        first, second = (numbers[:DRAWS] * 16).astype(int), (numbers[lag : DRAWS + lag] * 16).astype(int)
        assert abs(chi_square(np.bincount(16 * first + second, minlength=256))) < 3.5


@pytest.mark.parametrize("other", range(len(KEY) - 1))
def test_changing_another_word_gives_unrelated_numbers(other: int) -> None:
    """The draws of the next seed, pass, sample … are not those of this one, shifted or scaled."""
    changed = [value + (place == other) for place, value in enumerate(running(5))]
    a, b = keyed_random.uniform(*running(5)), keyed_random.uniform(*changed)
    assert abs(chi_square(np.bincount(16 * (a * 16).astype(int) + (b * 16).astype(int), minlength=256))) < 3.5
    assert len(np.intersect1d(a, b)) == 0


def test_arrays_give_what_scalars_give() -> None:
    passes, samples, draws = np.array([0, 5]), np.array([3, 1, 4, 1]), np.arange(3)
    got = keyed_random.bits(9, passes[:, None, None], samples[:, None], draws)
    assert got.shape == (2, 4, 3)
    assert got.dtype == np.uint64
    for at in np.ndindex(got.shape):
        assert got[at] == keyed_random.bits(9, int(passes[at[0]]), int(samples[at[1]]), int(draws[at[2]]))
    np.testing.assert_array_equal(got[:, 1], got[:, 3])  # the same sample twice


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8, np.uint64, np.intp])
def test_the_type_of_a_word_does_not_matter(kind: type) -> None:
    words = np.array([0, 1, 200])
    np.testing.assert_array_equal(keyed_random.bits(1, words.astype(kind)), keyed_random.bits(1, words))
    assert keyed_random.bits(kind(200)) == keyed_random.bits(200)


def test_the_order_and_number_of_words_matter() -> None:
    keys = [(0,), (0, 0), (0, 0, 0), (1, 0), (0, 1), (1, 2, 3), (1, 3, 2), (3, 2, 1), (2, 1, 3), (12, 3), (1, 23)]
    assert len({int(keyed_random.bits(*key)) for key in keys}) == len(keys)


def test_the_words_for_purposes_are_distinct_and_stay() -> None:
    """Another number would change what every seed, split, checkpoint and converted file means."""
    pinned = {
        "LABELED": 0,
        "UNLABELED": 1,
        "EVALUATION": 2,
        "DROPOUT": 1000,
        "INITIALISATION": 1001,
        "SUBSETS": 1002,
        "HELD_BACK": 1003,
    }
    found = {name: stream.value for name, stream in keyed_random.Stream.__members__.items()}
    assert found == pinned
    assert len(set(found.values())) == len(found)
    assert keyed_random.CONVERSION == 0


def test_pinned_draws_for_each_purpose() -> None:
    """The order of the words, as their users have it."""
    stream = keyed_random.Stream
    assert int(keyed_random.bits(0, stream.INITIALISATION)) == by_the_book(0, 1001)
    assert int(keyed_random.bits(3, stream.DROPOUT, 5, 1)) == by_the_book(3, 1000, 5, 1)
    chosen = [position for position in range(12) if Encoding(mode="proportion", raw_share=0.4).raw(position)]
    assert chosen == [position for position in range(12) if by_the_book(0, position) / 2**64 < 0.4]


def test_nothing_is_remembered() -> None:
    first = keyed_random.bits(4, np.arange(10))
    np.random.seed(1)
    keyed_random.bits(99, 98)
    np.testing.assert_array_equal(keyed_random.bits(4, np.arange(10)), first)
    np.testing.assert_array_equal(keyed_random.bits(4, np.arange(5, 10)), first[5:])


def test_no_two_keys_share_a_number() -> None:
    """Words that are summed, packed into too few bits or swapped would repeat a stream somewhere in this grid."""
    seed, stream, passes, sample, view, draw = np.ogrid[:3, :3, :12, :40, :5, :47]
    drawn = keyed_random.bits(seed, stream, passes, sample, view, draw)
    assert drawn.shape == (3, 3, 12, 40, 5, 47)
    assert np.unique(drawn).size == drawn.size == 1_015_200


@pytest.mark.parametrize("words", [(1, 2), (2, 3), (3, 4), (2, 4), (1, 3)], ids=str)
def test_two_words_running_together_are_uniform(words: tuple[int, int]) -> None:
    """Along the diagonal of (pass, sample) and so on: an image's number in step with its pass, say."""
    key = [np.arange(DRAWS) + value if place in words else value for place, value in enumerate(KEY)]
    numbers = keyed_random.uniform(*key)
    assert abs(chi_square(np.bincount((numbers * 1000).astype(int), minlength=1000))) < 3.5
    pairs = 16 * (numbers[:-1] * 16).astype(int) + (numbers[1:] * 16).astype(int)
    assert abs(chi_square(np.bincount(pairs, minlength=256))) < 3.5


def test_the_largest_seed_is_a_word():
    assert keyed_random.bits(keyed_random.LARGEST_SEED, 0) != keyed_random.bits(0, 0)
    with pytest.raises(OverflowError):
        keyed_random.bits(keyed_random.LARGEST_SEED + 1, 0)
