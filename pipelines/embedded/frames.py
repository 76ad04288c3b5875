"""Single frames of SpriteWorld with captions of stills: all that the image models are trained on."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from pipelines.embedded.render import render_clip
from pipelines.embedded.wording import appearance
from pipelines.embedded.world import WorldSettings, world_clips


@dataclass(frozen=True)
class Stills:
    """Frames drawn at random moments of the training clips, one frame a clip, so that no motion is seen."""

    frames: np.ndarray  # (N, S, S, 3) uint8
    captions: list[str]
    content: torch.Tensor  # (N,) int64; equal where the frames show the same things
    sprites: list[list[tuple[float, float, float]]]  # (x, y, radius) of each, in shares of the frame's side

    def pixels(self, numbers: np.ndarray, side_pixels: int) -> torch.Tensor:
        """(B, 3, side, side) in −1..1."""
        return _to_tensor(resize(self.frames[numbers], side_pixels))

    def sprite_cells(self, cells: int) -> torch.Tensor:
        """(N, 1, cells, cells) bool: which cells of a grid over the frame a sprite touches, about."""
        centres = (np.arange(cells) + 0.5) / cells
        touched = np.zeros((len(self.frames), 1, cells, cells), bool)
        for still, sprites in zip(touched[:, 0], self.sprites, strict=True):
            for x, y, radius in sprites:
                still |= np.hypot(centres - x, centres[:, None] - y) < 1.15 * radius + 0.5 / cells
        return torch.from_numpy(touched)


def render_stills(settings: WorldSettings) -> Stills:
    frames, captions, contents, sprites = [], [], [], []
    rng = np.random.default_rng(settings.seed)
    for clip in world_clips(settings):
        if clip.split != "train":
            break
        moment = rng.uniform(0, 1, 1)
        frames.append(render_clip(clip, moment, settings.side_pixels)[0])
        captions.append(appearance(clip))
        contents.append((clip.background, *sorted((s.shape, s.colour) for s in clip.sprites)))
        right, down = clip.camera_at(moment[0])
        places = [sprite.at(moment[0]) for sprite in clip.sprites]
        sprites.append([(x - right, y - down, radius) for x, y, radius in places])
    numbers = {content: number for number, content in enumerate(dict.fromkeys(contents))}
    content = torch.tensor([numbers[content] for content in contents])
    return Stills(np.stack(frames), captions, content, sprites)


def resize(frames: np.ndarray, side_pixels: int) -> np.ndarray:
    """(T, H, W, 3) uint8 → (T, side, side, 3) uint8."""
    return np.stack([cv2.resize(f, (side_pixels, side_pixels), interpolation=cv2.INTER_AREA) for f in frames])


def _to_tensor(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
