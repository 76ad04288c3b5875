"""Optical flow at latent resolution: units, directions, occlusions, and the exact flow of a known world."""

import cv2
import numpy as np
import pytest

from pipelines.curation.flow import latent_flow, pixel_flow
from pipelines.embedded.render import exact_flow, render_clip
from pipelines.embedded.world import WorldSettings, world_clips


def pan(pixels_per_frame: int, frames: int = 8) -> np.ndarray:
    """(T, 96, 160, 3): a camera that moves to the right over a texture, so that the picture moves left."""
    rng = np.random.default_rng(0)
    wide = cv2.resize(rng.integers(0, 255, (12, 60, 3), np.uint8), (480, 96), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, pixels_per_frame * t : pixels_per_frame * t + 160] for t in range(frames)])


def test_flow_is_in_latent_pixels_right_and_down_positive() -> None:
    flow, valid = latent_flow(*pixel_flow(pan(4)), 24, 40)
    assert flow.shape == (2, 7, 24, 40)
    assert valid.shape == (7, 24, 40)
    inner = flow[:, :, 4:-4, 6:-6]
    assert inner[0].mean() == pytest.approx(-1, abs=0.1)
    assert np.abs(inner[1]).mean() < 0.1
    downwards, _ = latent_flow(*pixel_flow(np.ascontiguousarray(pan(4)[::-1].swapaxes(1, 2))), 40, 24)
    assert downwards[1, :, 6:-6, 4:-4].mean() == pytest.approx(1, abs=0.1)


def test_what_leaves_the_frame_is_not_valid() -> None:
    _, valid = latent_flow(*pixel_flow(pan(8)), 24, 40)
    assert not valid[:, :, 0].any()
    assert valid[:, 4:-4, 8:-8].mean() > 0.9


def test_flow_is_the_exact_one_where_it_is_valid() -> None:
    cells, progresses = 32, np.linspace(0, 1, 9)[:8]
    errors, lengths, shares, untold = [], [], [], []
    for clip in world_clips(WorldSettings(clips=16, seed=3, pan_share=0.5, two_sprites_share=0)):
        if clip.split != "train":
            break
        flow, valid = latent_flow(*pixel_flow(render_clip(clip, progresses, 128)), cells, cells)
        pixels = exact_flow(clip, progresses, 128).reshape(-1, 128, 128)
        exact = (
            np.stack([cv2.resize(p, (cells, cells), interpolation=cv2.INTER_AREA) for p in pixels])
            * cells
            / 128
        )
        exact = exact.reshape(7, 2, cells, cells).swapaxes(0, 1)
        error = np.hypot(*(flow - exact))
        errors.append(error[valid].mean())
        lengths.append(np.hypot(*exact).max())
        shares.append(valid.mean())
        if clip.camera != "still":
            untold.append(error[~valid].mean() / error[valid].mean())
    assert np.mean(errors) < 0.08  # cells a frame
    assert np.mean(lengths) > 0.6
    assert np.mean(shares) > 0.9
    assert np.mean(untold) > 3  # what is not valid, the frame's edge and what is uncovered, is worse
