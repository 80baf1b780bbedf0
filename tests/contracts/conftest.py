"""What the contracts of the pipelines share."""

import pytest

from pipelines import NAMES
from tests.support.installed import PACKAGE, installed


@pytest.fixture(params=NAMES)
def pipeline(request: pytest.FixtureRequest) -> str:
    """The name of each pipeline in turn, skipped where its package is not installed."""
    if not installed(PACKAGE[request.param]):
        pytest.skip(f"{request.param} is not installed")
    name: str = request.param
    return name
