"""The tiny video classifier: tells SpriteWorld's motions apart. It measures; nothing is generated from it."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from pipelines.embedded.frames import resize
from pipelines.embedded.render import render_clip
from pipelines.embedded.world import WorldSettings, world_clips
from pipelines.evaluation.video_classifier import VideoClassifier
from pipelines.progress import track

FRAMES = 8
SIDE_PIXELS = 32


def train_classifier(
    world: WorldSettings, motions: tuple[str, ...], steps: int, clips: int = 2000, batch: int = 32
) -> VideoClassifier:
    """Cross-entropy over the motion of single sprites, with brightness and noise drawn anew each time."""
    videos, labels = _videos(replace(world, clips=clips, motions=motions, two_sprites_share=0.0))
    torch.manual_seed(0)
    model = VideoClassifier(classes=motions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(0)
    model.train()
    with track(steps, "video classifier") as progress:
        for _ in range(steps):
            numbers = torch.randint(0, len(videos), (batch,), generator=generator)
            pixels = videos[numbers].permute(0, 4, 1, 2, 3).float() / 255  # (B, 3, T, H, W)
            light = 1 + 0.1 * torch.randn((batch, 1, 1, 1, 1), generator=generator)
            pixels = (pixels * light + 0.02 * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
            loss = F.cross_entropy(model(pixels).logits, labels[numbers])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.advance(detail=f"loss {loss.item():.3f}")
    return model.eval()


def _videos(world: WorldSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, T, H, W, 3) uint8 frames of the training clips, and (N,) the number of their motion."""
    videos, labels = [], []
    for clip in world_clips(world):
        if clip.split != "train":
            break
        progresses = np.linspace(0, (world.frames - 2) / (world.frames - 1), FRAMES)
        videos.append(resize(render_clip(clip, progresses, world.side_pixels), SIDE_PIXELS))
        labels.append(world.motions.index(clip.sprites[0].motion))
    return torch.from_numpy(np.stack(videos)), torch.tensor(labels)
