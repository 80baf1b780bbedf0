"""The converter knows before it writes what the file will take, nearly, and refuses where the disk is too small."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pipelines.beton.convert import convert, scan
from pipelines.beton.encoding import Encoding
from pipelines.beton.room import bytes_needed
from pipelines.errors import DataError
from pipelines.samples.listing import Listing
from tests.support.images import photo


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    """JPEGs as large and as fine as photographs' parts, and PNGs."""
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(6):
            photo(320 + 10 * number, 240, number).save(tmp_path / "train" / name / f"{number}.jpg", quality=85)
        photo(100, 80, 9).save(tmp_path / "train" / name / "9.png")
    return scan(tmp_path / "train")


def stored_bytes(beton: Path) -> int:
    import numpy as np

    return int(np.load(f"{beton}.records.npy")["size"].sum())


@pytest.mark.parametrize(
    ("encoding", "within"),
    [
        (Encoding(), 0.01),
        (Encoding(mode="raw"), 0.01),
        (Encoding(mode="planes"), 0.05),
        (Encoding(mode="raw", max_resolution=100), 0.05),
    ],
    ids=["jpeg", "raw", "planes", "raw, smaller"],
)
def test_the_estimate_is_near_what_is_stored(
    listing: Listing, tmp_path: Path, encoding: Encoding, within: float
) -> None:
    convert(listing, tmp_path / "train.beton", encoding, 1)
    needed = bytes_needed(listing, listing.indices, encoding)
    assert needed == pytest.approx(stored_bytes(tmp_path / "train.beton"), rel=within)


def test_a_small_disk_is_refused_before_anything_is_written(
    listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = bytes_needed(listing, listing.indices, Encoding(mode="raw"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, needed - 1))
    beton = tmp_path / "new/folder/train.beton"
    with pytest.raises(DataError, match=r"will take about 0\.0 GiB more, .* leave out --mode, or store smaller"):
        convert(listing, beton, Encoding(mode="raw"), 1)
    assert not (tmp_path / "new").exists()
    convert(listing, beton, Encoding(), 1)
    assert beton.exists()
