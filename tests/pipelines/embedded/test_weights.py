"""The committed tiny models: small, loaded as the big ones are, good enough for what they are used for."""

import numpy as np
import pytest
import torch

from modeling.latents import decode_latents, encode_pixels
from modeling.text import encode_motion, motion_ids, without_padding
from pipelines.embedded.frames import render_stills
from pipelines.embedded.train_vae import resample
from pipelines.embedded.world import WorldSettings
from pipelines.models import EMBEDDED, load_motion_encoder, load_vae


def test_they_take_at_most_thirteen_megabytes_and_hold_no_pickle() -> None:
    files = [file for file in EMBEDDED.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 13 * 10**6
    assert {file.suffix for file in files} == {".safetensors", ".json"}


def test_the_vae_gives_frames_back() -> None:
    stills = render_stills(WorldSettings(clips=32, seed=77))
    pixels = stills.pixels(np.arange(32), 48) / 2 + 0.5
    vae = load_vae("embedded://stable_diffusion")
    mean, _ = encode_pixels(vae, pixels)
    squared = (decode_latents(vae, mean) - pixels).square().mean((1, 2, 3))
    assert -10 * squared.log10().mean() > 35  # dB
    assert 0.8 < mean.std() < 1.3  # scaled once, not never and not twice


def test_latents_that_move_by_half_a_cell_are_the_picture_moved() -> None:
    pixels = render_stills(WorldSettings(clips=32, seed=77)).pixels(np.arange(32), 48) / 2 + 0.5
    vae = load_vae("embedded://stable_diffusion")
    mean, _ = encode_pixels(vae, pixels)  # 12x12 cells of 4x4 pixels
    moved = decode_latents(vae, resample(mean, 11, 1.0, np.full((32, 2), 0.5)))
    squared = (moved - pixels[:, :, 2:46, 2:46]).square().mean((1, 2, 3))
    assert -10 * squared.log10().mean() > 29  # dB; 27 and less where latents are not trained to move


@pytest.mark.parametrize("model", ["embedded://motion_encoder", "embedded://clip"])
def test_t5_and_clip_read_motion_captions_and_hide_padding(model: str) -> None:
    encoder, tokenizer = load_motion_encoder(model)
    ids = motion_ids(tokenizer, ["star moves left", "", "heart slides to the right"], 20)
    tokens, mask = encode_motion(encoder, without_padding(ids))
    assert tokens.shape == (*mask.shape, 64)
    assert tokens.isfinite().all()
    words = mask.sum(1)
    assert words[1] == 0  # no caption, no token
    assert 3 <= words[0] < words[2] == mask.shape[1] < 20
    alone, _ = encode_motion(encoder, without_padding(ids[:1]))
    torch.testing.assert_close(tokens[0, : words[0]], alone[0], rtol=1e-4, atol=1e-5)


def test_the_motion_encoder_keeps_opposites_apart() -> None:
    encoder, tokenizer = load_motion_encoder("embedded://motion_encoder")
    pairs = [
        ("star moves left", "star moves right"),
        ("heart rises", "heart falls"),
        ("moon grows", "moon shrinks"),
    ]
    for pair in pairs:
        tokens, mask = encode_motion(encoder, motion_ids(tokenizer, pair, 16))
        one, other = (tokens[i][mask[i]].mean(0) for i in range(2))
        spread = tokens[mask].std()
        assert (one - other).square().mean().sqrt() > 0.25 * spread, pair
        assert torch.isfinite(tokens).all()
