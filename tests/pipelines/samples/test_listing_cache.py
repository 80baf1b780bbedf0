"""The listing cache is a convenience: whatever is wrong with it or its place, the listing is right."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.files import cache_folder
from pipelines.samples import listing_cache
from pipelines.samples.listing import Listing, list_images
from pipelines.samples.listing_cache import Remembered

SIZES = [(20, 30), (21, 32), (22, 34), (23, 36)]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of two images, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, size in zip(("a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.png"), SIZES, strict=True):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)
    return tmp_path / "train"


@pytest.fixture
def cache(small: Path) -> Path:
    """The cache file, as the first listing leaves it."""
    list_images(small)
    path = listing_cache.cache_path(small, "classes")
    assert path is not None
    assert path.is_file()
    return path


def sizes(listing: Listing) -> list[tuple[int, int]]:
    return list(zip(listing.widths.tolist(), listing.heights.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["file", "pipe", "folder", "full folder", "device", "dangling link"])
@pytest.mark.timeout(60)
def test_whatever_stands_in_its_place(small: Path, cache: Path, kind: str) -> None:
    cache.unlink()
    if kind == "pipe":
        os.mkfifo(cache)
    elif kind.endswith("folder"):
        cache.mkdir()
        if kind == "full folder":
            (cache / "x").touch()
    elif kind == "file":
        cache.write_bytes(os.urandom(1000))
    else:
        cache.symlink_to("/dev/zero" if kind == "device" else "/nowhere/at/all")
    for _ in range(2):
        assert sizes(list_images(small)) == SIZES
    assert sorted(path.name for path in cache.parent.iterdir() if path.name.startswith((".", "tmp"))) == []


@pytest.mark.parametrize("at", ["cache", "cache/debiaspl", "cache/debiaspl/listings"])
def test_a_file_in_place_of_its_folder(small: Path, tmp_path: Path, at: str) -> None:
    (tmp_path / at).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / at).write_text("precious")
    assert sizes(list_images(small)) == SIZES
    assert (tmp_path / at).read_text() == "precious"


def test_a_lock_that_is_a_folder(small: Path, cache: Path) -> None:
    cache.with_suffix(".lock").unlink()
    cache.with_suffix(".lock").mkdir()
    assert sizes(list_images(small)) == SIZES


WIDTHS = np.array([20, 21, 22, 23], np.int32)
# what another program, or another version, may have written: column → content
OTHERS: dict[str, dict[str, object]] = {
    "fewer widths": {"widths": WIDTHS[:3]},
    "more labels": {"labels": np.zeros(5, np.int64)},
    "wider widths": {"widths": WIDTHS.astype(np.int64)},
    "widths as floats": {"widths": WIDTHS.astype(np.float32)},
    "widths as text": {"widths": WIDTHS.astype(str)},
    "widths of two dimensions": {"widths": WIDTHS[None]},
    "one width": {"widths": WIDTHS[0]},
    "negative widths": {"widths": -WIDTHS},
    "a width without a height": {"heights": np.array([0, 32, 34, 36], np.int32)},
    "negative lengths": {"bytes": np.full(4, -2, np.int64)},
    "names without an end": {"names": np.frombuffer(b"a/0.jpg\0a/1.jpg\0b/0.jpg\0b/1.png", np.uint8)},
    "fewer names": {"names": np.frombuffer(b"a/0.jpg\0a/1.jpg\0", np.uint8)},
    "no names": {"names": np.empty(0, np.uint8)},
    "no rows": {name: np.empty(0, np.int64) for name in ("labels", "bytes", "times")},
    "other names": {"names": np.frombuffer(b"c/0.jpg\0c/1.jpg\0c/2.jpg\0c/3.png\0", np.uint8)[:-1]},
}


@pytest.mark.parametrize("other", OTHERS)
def test_columns_of_other_lengths_types_or_values(small: Path, cache: Path, other: str) -> None:
    """Sealed as ours are: the checksum alone would let them pass."""
    good = listing_cache.load(cache)
    assert good is not None
    assert good.is_sound()
    bad = good._replace(**OTHERS[other])
    assert not bad.is_sound()
    listing_cache.save(cache, bad)
    assert listing_cache.load(cache) is None
    assert sizes(list_images(small)) == SIZES
    assert listing_cache.load(cache) is not None  # made again


def test_a_change_without_its_checksum_is_noticed(small: Path, cache: Path) -> None:
    good = listing_cache.load(cache)
    assert good is not None
    changed = good._replace(widths=good.widths + 1)
    assert changed.is_sound()
    with cache.open("wb") as file:
        np.savez(file, **changed._asdict(), sha256=good.digest())
    assert listing_cache.load(cache) is None
    with cache.open("wb") as file:  # the columns of another version
        np.savez(file, **good._asdict())
    assert listing_cache.load(cache) is None
    assert sizes(list_images(small)) == SIZES


def test_the_digest_covers_every_column(cache: Path) -> None:
    good = listing_cache.load(cache)
    assert good is not None
    changed = [good._replace(**{name: getattr(good, name) + 1}) for name in Remembered._fields]
    assert len({content.digest().tobytes() for content in (good, *changed)}) == 7


def test_objects_are_not_unpickled(small: Path, cache: Path) -> None:
    good = listing_cache.load(cache)
    assert good is not None
    with cache.open("wb") as file:
        np.savez(file, **{**good._asdict(), "widths": np.array([print] * 4, object)}, sha256=good.digest())
    assert listing_cache.load(cache) is None


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert cache_folder() == Path("/somewhere/cache/debiaspl")
    for unset in ("", None):
        monkeypatch.delenv("XDG_CACHE_HOME") if unset is None else monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == Path("/home/somebody/.cache/debiaspl")


def test_without_a_cache_folder_every_header_is_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
    assert listing_cache.cache_path(small, "classes") is None
    for _ in range(2):
        assert sizes(list_images(small)) == SIZES
