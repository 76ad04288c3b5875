"""Playing pictures keep their pace, stay within their room, and have a still one beside them."""

import base64
import io

import numpy as np
from PIL import Image

from pipelines.report.pictures import GAP_PIXELS, in_step, playing


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def noise(frames: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (frames, side, side, 3), np.uint8)


def test_a_playing_picture_has_every_frame_and_the_videos_pace():
    picture = playing(noise(6), 8.0, 10**6)
    image = opened(picture.uri)
    assert (image.n_frames, image.size) == (6, (64, 64))
    image.seek(1)
    image.load()
    assert image.info["duration"] == 125
    assert opened(picture.still).size == (64, 64)
    assert getattr(opened(picture.still), "n_frames", 1) == 1


def test_what_would_be_too_large_gives_up_detail_and_then_size():
    whole = playing(noise(8), 8.0, 10**6)
    coarse = playing(noise(8), 8.0, len(whole.uri) * 5 // 8)
    small = playing(noise(8), 8.0, 1)
    assert len(whole.uri) > len(coarse.uri) > len(small.uri)
    assert (coarse.width, small.width) == (64, 32)


def test_videos_of_other_rates_and_lengths_play_in_step():
    slow = np.stack([np.full((16, 16, 3), 10 * t, np.uint8) for t in range(4)])  # 1 s
    fast = np.stack([np.full((16, 16, 3), 10 * t, np.uint8) for t in range(6)])  # 0.75 s
    frames, fps = in_step([(slow, 4.0), (fast, 8.0)], height_pixels=16)
    assert (fps, frames.shape) == (8.0, (8, 16, 32 + GAP_PIXELS, 4))
    assert frames[:, 0, 0, 0].tolist() == [0, 0, 10, 10, 20, 20, 30, 30]
    assert frames[:, 0, -1, 0].tolist() == [0, 10, 20, 30, 40, 50, 50, 50]
    assert (frames[:, 0, 16, 3] == 0).all()
