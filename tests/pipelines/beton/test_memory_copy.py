"""A file's copy in memory: the same bytes, one for all sources, gone with the last, and only where it fits."""

import gc
import os
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from pipelines.beton import memory_copy as beton_cache
from pipelines.beton.memory_copy import BetonCopy, copy_of
from pipelines.errors import DataError
from tests.support.leaks import WAIT

SIZE = 1_000_003


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "train.beton").write_bytes(os.urandom(SIZE))
    return tmp_path / "train.beton"


def finished(copy: BetonCopy | None) -> BetonCopy:
    assert copy is not None
    assert copy._whole.wait(WAIT)
    return copy


@pytest.mark.parametrize("block", [1 << 24, 4096])
def test_the_bytes_are_the_files(path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beton_cache, "_BLOCK", block)
    content = finished(copy_of(path, "memory", 1)).content
    assert content is not None
    mapped = np.memmap(path, np.uint8, "r")
    np.testing.assert_array_equal(content, mapped)
    assert content.flags.writeable == mapped.flags.writeable is False


def test_one_copy_for_all_and_none_after_the_last(path: Path) -> None:
    one, other = copy_of(path, "auto", 1), copy_of(path, "memory", 1)
    assert one is other
    content = weakref.ref(finished(one).content)
    del one
    assert content() is not None
    del other
    gc.collect()
    assert content() is None
    assert not beton_cache._copies


def test_a_file_that_was_replaced_is_another_one(path: Path) -> None:
    old = finished(copy_of(path, "auto", 1))
    (path.parent / "new").write_bytes(bytes(SIZE))
    (path.parent / "new").replace(path)
    new = finished(copy_of(path, "auto", 1))
    assert new is not old
    assert not new.content.any()
    assert old.content.any()


def test_only_where_it_fits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beton_cache, "available_memory", lambda: 6 * SIZE)
    assert copy_of(path, "page", 1) is None
    assert copy_of(path, "auto", 4) is None
    assert copy_of(path, "auto", 3) is not None
    assert copy_of(path, "memory", 7) is not None
    monkeypatch.setattr(beton_cache, "available_memory", lambda: SIZE - 1)
    with pytest.raises(DataError, match=r"but only .* of memory are available. Use ffcv\.cache=page"):
        copy_of(path, "memory", 1)


def test_what_is_promised_to_one_file_is_not_there_for_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, go_on = beton_cache._read, threading.Event()

    def waiting(*arguments: object) -> None:
        go_on.wait(WAIT)
        read(*arguments)

    monkeypatch.setattr(beton_cache, "_read", waiting)
    monkeypatch.setattr(beton_cache, "available_memory", lambda: 3 * SIZE)
    other = path.with_name("val.beton")
    other.write_bytes(os.urandom(SIZE))
    first = copy_of(path, "auto", 1)
    assert copy_of(other, "auto", 1) is None
    go_on.set()
    finished(first)
    assert copy_of(other, "auto", 1) is not None  # in earnest, less would be available by now


def test_the_reader_stops_with_the_last_reference(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def endless(path: Path, content: object, whole: threading.Event, stop: threading.Event) -> None:
        begun.set()
        assert stop.wait(WAIT)

    monkeypatch.setattr(beton_cache, "_read", endless)
    copy = copy_of(path, "memory", 1)
    assert begun.wait(WAIT)
    assert copy.content is None
    del copy
    assert "beton-copy" not in {thread.name for thread in threading.enumerate()}


def test_a_file_that_shrinks_is_not_copied(path: Path) -> None:
    content, whole, stop = np.empty(SIZE + 7, np.uint8), threading.Event(), threading.Event()
    with pytest.warns(UserWarning, match=r"train\.beton is not kept in memory: it ends at byte 1000003 of 1000010"):
        beton_cache._read(path, content, whole, stop)
    assert not whole.is_set()
