"""Damaged files: each is refused in words, or means what the whole one means; a cache is made again."""

import pytest

from tests.support.damaged_betons import count_refused, of_every_kind
from tests.support.damaged_files import FILES, count_outcomes


@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_a_hundred_damaged_copies(make, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outcomes = count_outcomes(make(tmp_path), copies=100, seed=0)
    if make.__name__ in ("cached_listing", "names_file"):  # never needed: without them only time or a name is lost
        assert outcomes == (0, 100)
    else:
        assert outcomes.refused > 50


@pytest.mark.parametrize("mode", ["jpeg", "planes"])
def test_a_hundred_damaged_betons(mode, tmp_path):
    listing, beton = of_every_kind(tmp_path, mode)
    assert count_refused(listing, beton, copies=0, seed=0) == 0
    assert 30 < count_refused(listing, beton, copies=100, seed=0) < 100
