"""The video UNet beside its peers: operations are what arithmetic says, and the command's table adds up."""

import json
import subprocess
import sys
from functools import partial

import pytest
import torch

from modeling.layers import pixel_positions
from modeling.pixel_attention import PixelAttention
from modeling.temporal import MotionText, TemporalModule
from pipelines.benchmark.model import Batch, Shape, make_ours, step_flop, step_ours
from pipelines.benchmark.operations import count_flop_by_part, peak_bytes
from pipelines.operations import count_flop, counted_in_full

CLIPS, FRAMES, SIDE, CHANNELS, TOKENS, MOTION_DIM, EMBEDDING = 2, 5, 8, 32, 7, 24, 48
PIXELS = SIDE**2
TINY = Shape(clips=1, frames=2, latent_side=4, widths=(32, 64))


def linear(rows, inputs, outputs):
    """2 operations for each multiplication and addition; a convolution has kernel × channels inputs."""
    return 2 * rows * inputs * outputs


def attention(queries, keys, channels):
    """q kᵀ and the weighted sum of the values."""
    return 4 * queries * keys * channels


@pytest.mark.parametrize("spatial_kernel", [1, 3])
def test_a_temporal_module_costs_what_its_formula_says(spatial_kernel):
    rows, c = CLIPS * FRAMES * PIXELS, CHANNELS
    forward = (
        linear(rows, 3 * spatial_kernel**2 * c, c)
        + linear(CLIPS * FRAMES, EMBEDDING, 2 * c)
        + linear(rows, c, c)
        + linear(rows, c, 3 * c) + CLIPS * PIXELS * attention(FRAMES, FRAMES, c) + linear(rows, c, c)
        + linear(rows, c, c) + linear(CLIPS * TOKENS, MOTION_DIM, 2 * c)
        + CLIPS * attention(FRAMES * PIXELS, TOKENS, c) + linear(rows, c, c)
        + linear(rows, c, 4 * c) + linear(rows, 4 * c, c)
    )  # fmt: skip
    with counted_in_full():
        module = TemporalModule(
            c,
            EMBEDDING,
            head_dim=16,
            kernel=3,
            spatial_kernel=spatial_kernel,
            feed_forward_factor=4,
            motion_dim=MOTION_DIM,
        )
        x = torch.randn(CLIPS * FRAMES, c, SIDE, SIDE, requires_grad=True)
        embedding = torch.randn(CLIPS * FRAMES, EMBEDDING, requires_grad=True)
        motion = MotionText.of(torch.randn(CLIPS, TOKENS, MOTION_DIM, requires_grad=True), None)
        call = partial(module, x, embedding, FRAMES, motion)
        assert count_flop(call) == pytest.approx(forward, rel=0.02)
        # Backward is two products for each of forward's: for the input and for the weights.
        assert count_flop(lambda: call().sum().backward()) == pytest.approx(3 * forward, rel=0.02)


@pytest.mark.parametrize("window", [None, 4])
def test_pixel_attention_costs_what_its_formula_says(window):
    rows, c = CLIPS * FRAMES * PIXELS, CHANNELS
    seen = PIXELS if window is None else (2 * window) ** 2
    forward = 2 * linear(rows, c, c) + 2 * linear(CLIPS * PIXELS, c, c) + attention(rows, seen, c)
    with counted_in_full():
        module = PixelAttention(c, 16, window)
        x = torch.randn(CLIPS * FRAMES, c, SIDE, SIDE, requires_grad=True)
        image = torch.randn(CLIPS, c, SIDE, SIDE, requires_grad=True)
        call = partial(module, x, image, pixel_positions(image), None, FRAMES)
        assert count_flop(call) == pytest.approx(forward, rel=0.02)
        assert count_flop(lambda: call().sum().backward()) == pytest.approx(3 * forward, rel=0.02)


@pytest.mark.parametrize(
    ("switch", "parts"),
    [
        ("adapter", ("resampler", "decoupled_attention")),
        ("predict_net", ("flow_predictor",)),
        ("temporal", ("temporal_modules", "frame_embedding")),
    ],
)
def test_a_part_costs_what_the_model_costs_less_without_it(switch, parts):
    with counted_in_full():
        model = make_ours(TINY).eval()
        by_part = count_flop_by_part(model, partial(step_ours, model, Batch(TINY)), rest="image")
    whole = step_flop(TINY, make_ours, step_ours)
    without = step_flop(TINY, partial(make_ours, **{switch: False}), step_ours)
    assert sum(by_part.values()) == whole
    assert sum(by_part[part] for part in parts) == pytest.approx(whole - without, rel=0.01)


def test_peak_memory_is_what_was_held_at_once():
    def step():
        for _ in range(3):
            one = torch.ones(1000, dtype=torch.float64)
            two = one + one
            del one, two

    assert peak_bytes(step) == pytest.approx(16_000, rel=0.02)


def test_the_command_names_the_peers_and_its_parts_add_up():
    command = [sys.executable, "-m", "jobs.cli", "benchmark", "model", "--frames", "4", "--size", "8"]
    command += ["--widths", "32,64", "--repeats", "1", "--threads", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    ours, motion, i2vgen = summary["models"]
    assert [ours["model"], motion["model"], i2vgen["model"]] == [
        "FactorizedUNet",
        "UNetMotionModel",
        "I2VGenXLUNet",
    ]
    assert min(motion["of_faster_peer"], i2vgen["of_faster_peer"]) == 1
    assert i2vgen["peak_mb_checkpointed"] is None
    assert all(0 < row["peak_mb_checkpointed"] < row["peak_mb"] for row in (ours, motion))
    for key in ("parameters", "gflop"):
        assert sum(part[key] for part in summary["parts"]) == pytest.approx(ours[key], rel=0.01)
    full, windowed = (
        [row[name]["gflop"] for row in summary["pixel_attention"]] for name in ("full", "windowed")
    )
    assert full[2] / full[1] > 12  # four times the pixels: sixteen times, or four
    assert windowed[2] / windowed[1] == pytest.approx(4, rel=0.01)


def test_widths_that_no_model_has_are_wrong_usage():
    command = [sys.executable, "-m", "jobs.cli", "benchmark", "model", "--widths", "32,50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "multiples of 32" in done.stderr
