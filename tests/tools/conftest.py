"""What the tests of the converter share: a data folder of many kinds of images, and FFCV's own Loader."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ffcv_process import Loaded, LoaderProcess
from tests.support.images import mixed_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one image of each kind that the converter tells apart."""
    return mixed_data(tmp_path / "data")


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Loaded]]:
    """(beton, decoder's name, its arguments) → all images, labels and indices as FFCV's own Loader yields them."""
    process = LoaderProcess(tmp_path_factory.mktemp("loaded"))
    yield process.load
    process.close()
