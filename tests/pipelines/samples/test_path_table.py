"""Paths behaves as the tuple of strings that it stands for."""

import os

import numpy as np
import pytest

from pipelines.samples.path_table import Paths

NAMES = ("a/0.jpg", "a b/ü.png", os.fsdecode(b"bad\xff/1.jpg"), "z", "")


def test_it_is_the_sequence_of_its_strings():
    paths = Paths.of(NAMES)
    assert len(paths) == len(NAMES)
    assert tuple(paths) == NAMES
    assert [paths[at] for at in range(-5, 5)] == [NAMES[at] for at in range(-5, 5)]
    assert paths[np.int64(2)] == NAMES[2]
    assert tuple(paths[1:4]) == NAMES[1:4]
    assert tuple(paths[::-2]) == NAMES[::-2]
    assert paths.index("z") == 3
    assert "a b/ü.png" in paths
    assert "a" not in paths


@pytest.mark.parametrize("at", [5, -6, 100])
def test_beyond_its_ends_there_is_nothing(at):
    with pytest.raises(IndexError):
        Paths.of(NAMES)[at]


def test_equality_is_that_of_the_paths():
    paths = Paths.of(NAMES)
    assert paths == Paths(paths.block)
    assert hash(paths) == hash(Paths(paths.block))
    assert paths != Paths.of(NAMES[:-1])
    assert Paths.of(()) == Paths(b"")
    assert not Paths(b"")


def test_the_block_is_what_the_file_system_spells():
    assert Paths.of(NAMES[:3]).block == b"a/0.jpg\0a b/\xc3\xbc.png\0bad\xff/1.jpg\0"
