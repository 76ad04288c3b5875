"""A shard gives back the frames that it was made from."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from modeling.latents import decode_latents
from pipelines.curation.clip_table import read_clips
from pipelines.curation.decode import DecoderProcess
from pipelines.curation.manifest import list_shards
from pipelines.curation.run import curate
from pipelines.curation.shards import decode_row, shard_metadata
from pipelines.embedded.sprites import make_sprites
from pipelines.embedded.world import WorldSettings
from pipelines.layout import RunLayout
from pipelines.models import load_vae
from pipelines.recipe_file import load_recipe


@pytest.mark.usefixtures("ray")
def test_decoded_latents_are_the_clips_frames_and_as_bright(tmp_path: Path) -> None:
    few = WorldSettings(
        clips=12, validation_clips=0, held_out_clips=0, held_out_two_clips=0, held_out_pan_clips=0
    )
    table = make_sprites(tmp_path / "sprites", few, flow=False, processes=1)
    recipe = load_recipe("demo", (f"data.table={table}", f"run_directory={tmp_path / 'run'}"))
    layout = RunLayout(tmp_path / "run")
    curate(recipe)
    clips = {row["clip_id"]: row for row in read_clips(layout).to_pylist()}
    vae = load_vae("embedded://stable_diffusion")
    decibels, brighter = [], []
    with DecoderProcess() as decoder:
        for path in list_shards(layout, "8x48x48"):
            metadata = shard_metadata(path)
            for packed in pq.read_table(path).to_pylist():
                row = decode_row(packed, metadata)
                clip = clips[row["clip_id"]]
                uri = str(table.parent / clip["source_uri"])
                frames = decoder.clip(uri, clip["start_seconds"], 8, recipe.curation.fps, 48, 48)
                expected = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
                decoded = decode_latents(vae, row["latents_mean"].transpose(0, 1).float())  # (T, 3, H, W)
                decibels.append(-10 * float((decoded - expected).square().mean().log10()))
                off = (decoded - expected).mean((1, 2, 3))  # (T,)
                brighter.append(float(off[0] - off[1:].mean()))
    assert len(decibels) == len(clips) == 12
    assert np.mean(decibels) > 33
    assert np.mean(brighter) == pytest.approx(0, abs=0.002)
