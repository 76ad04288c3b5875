"""Fixtures that several rooms share."""

from pathlib import Path

import pytest

from pipelines.embedded.sprites import make_sprites
from pipelines.embedded.world import WorldSettings


@pytest.fixture(scope="session")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SpriteWorld: `sprites.csv`, `videos/`, `flow/`."""
    out = tmp_path_factory.mktemp("sprites")
    settings = WorldSettings(
        clips=16, validation_clips=4, held_out_clips=8, held_out_two_clips=2, held_out_pan_clips=2
    )
    make_sprites(out, settings, processes=1)
    return out
