from pathlib import Path

import pytest

from tests.pipelines.study import world


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two evaluated runs with videos of the same twelve clips, 48 pixels wide."""
    folder = tmp_path_factory.mktemp("study_runs")
    clips = world.clips()
    one = world.evaluated_run(folder / "steady", clips)
    other = world.evaluated_run(folder / "grainy", clips, noise=14)
    return one, other
