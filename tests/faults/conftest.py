"""What the fault tests share: the end of a run that nothing disturbed."""

from pathlib import Path

import pytest

from tests.support.forked_runs import ForkedRuns
from tests.support.runs import quick


@pytest.fixture(scope="session")
def undisturbed(forked: ForkedRuns, few_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of two epochs that nothing disturbed, by their number of ranks."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for world in (1, 2):
        ended = forked(quick(few_data, folder / str(world), epochs=2), world=world)
        assert ended.statuses == [0] * world, ended.said
    return {world: folder / str(world) for world in (1, 2)}
