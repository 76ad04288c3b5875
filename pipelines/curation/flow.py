"""Optical flow at latent resolution, with the mask of where it can be believed."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the decoder's child, which estimates flow too, does without torch
    import torch

# Sundaram et al. 2010: forward and backward flow disagree by more than this → occluded.
CONSISTENCY_SHARE = 0.01
CONSISTENCY_PIXELS_SQUARED = 0.5
VALID_SHARE = 0.5


def pixel_flow(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """frames (T, H, W, 3) uint8 RGB → flow (T−1, H, W, 2) in pixels, trusted (T−1, H, W) bool.

    OpenCV's DIS, forward and backward.
    """
    import cv2

    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    flows, trusted = [], []
    for one, two in pairwise(grey):
        # As exact on small frames as the preset MEDIUM, in three quarters of its time.
        forward, backward = (
            dis_flow(*pair, cv2.DISOPTICAL_FLOW_PRESET_FAST, finest_scale=1)
            for pair in ((one, two), (two, one))
        )
        flows.append(forward)
        trusted.append(consistent(forward, backward))
    return np.stack(flows), np.stack(trusted)


def dis_flow(one: np.ndarray, two: np.ndarray, preset: int, *, finest_scale: int | None = None) -> np.ndarray:
    """Flow (H, W, 2) float32 in pixels from one grey frame (H, W) uint8 to another.

    An estimator for each pair: a small frame (the longer side under 91 pixels) changes the scales of all
    later calls of its estimator.
    """
    import cv2

    estimator = cv2.DISOpticalFlow_create(preset)
    if finest_scale is not None:
        estimator.setFinestScale(finest_scale)
    flow: np.ndarray = estimator.calc(one, two, None)  # type: ignore[call-overload]
    return flow


def network_flow(network: Any, frames: "torch.Tensor") -> tuple[np.ndarray, np.ndarray]:
    """As `pixel_flow`, by a network on its device; frames (T, 3, H, W) in 0..1.

    All pairs of a clip make one batch, so that a clip's flow does not depend on its neighbours.
    """
    import torch

    scaled = 2 * frames - 1
    with torch.inference_mode():
        forward, backward = (
            network(one, two).permute(0, 2, 3, 1).float().cpu().numpy()  # (T−1, H, W, 2)
            for one, two in ((scaled[:-1], scaled[1:]), (scaled[1:], scaled[:-1]))
        )
    return forward, np.stack([consistent(*pair) for pair in zip(forward, backward, strict=True)])


def latent_flow(
    flow: np.ndarray, trusted: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """flow (T−1, H, W, 2), trusted (T−1, H, W) → flow (2, T−1, h, w), valid (T−1, h, w) bool.

    In cells of the (height, width) grid per frame, (dx, dy), right and down positive: the mean of the
    trusted pixels of a cell, zero where fewer than half are.
    """
    import cv2

    cells = np.array([width / flow.shape[2], height / flow.shape[1]], np.float32)
    flows, valids = [], []
    for vectors, mask in zip(flow, trusted.astype(np.float32), strict=True):
        share = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
        mean = cv2.resize(vectors * mask[..., None], (width, height), interpolation=cv2.INTER_AREA)
        valid = share >= VALID_SHARE
        flows.append(np.where(valid[..., None], mean / np.maximum(share, 1e-6)[..., None] * cells, 0))
        valids.append(valid)
    return np.stack(flows).transpose(3, 0, 1, 2).astype(np.float32), np.stack(valids)


def consistent(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """(H, W) bool: following forward flow and then backward flow leads home, inside the frame."""
    import cv2

    height, width = forward.shape[:2]
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    to_x, to_y = x + forward[..., 0], y + forward[..., 1]
    returned = cv2.remap(backward, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = squared_length(forward + returned)
    bound = CONSISTENCY_SHARE * (squared_length(forward) + squared_length(returned))
    inside = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    return (error < bound + CONSISTENCY_PIXELS_SQUARED) & inside


def squared_length(vectors: np.ndarray) -> np.ndarray:
    """(..., 2) → (...); a sum over so short an axis is six times as slow."""
    squared: np.ndarray = vectors[..., 0] ** 2 + vectors[..., 1] ** 2
    return squared
