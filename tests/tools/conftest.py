"""What the tests of the converter share: a data folder of many kinds of images, and FFCV's own Loader."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ffcv_process import Loaded, LoaderProcess
from tests.support.images import mixed_data


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is flushed to the disk: no test cuts the power, and disks differ in speed a hundredfold."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(os, "fdatasync", lambda file: None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one image of each kind that the converter tells apart."""
    return mixed_data(tmp_path / "data")


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Loaded]]:
    """(beton, decoder's name, its arguments) → all images, labels and indices as FFCV's own Loader yields them."""
    pytest.importorskip("ffcv", reason="read with ffcv itself: pip install -e '.[ffcv]'")
    process = LoaderProcess(tmp_path_factory.mktemp("loaded"))
    yield process.load
    process.close()
