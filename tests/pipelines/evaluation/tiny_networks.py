"""Small random networks in the very files and with the very calls of the big ones."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from pipelines.fingerprint import file_sha256
from pipelines.recipe import NetworkFile


class I3d(nn.Module):
    """StyleGAN-V's call: videos (B, 3, T, H, W) in 0..255 and three flags."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.convolve = nn.Conv3d(3, 8, (3, 4, 4), stride=(1, 4, 4))
        self.project = nn.Linear(16, features)

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        if rescale:
            x = 2 * x / 255 - 1
        if resize:
            x = F.interpolate(x, size=[x.shape[2], 32, 32], mode="trilinear", align_corners=False)
        h = self.convolve(x).relu()
        # Mean over time and what changes in it, so that the order of frames counts.
        change = (h[:, :, 1:] - h[:, :, :-1]).abs()
        features = self.project(torch.cat([h.mean([2, 3, 4]), change.mean([2, 3, 4])], 1))
        return features if return_features else features.softmax(1)


class C3d(nn.Module):
    """StyleGAN-V's call: videos (B, 3, 16, H, W) in 0..255; softmax probabilities."""

    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.classify = nn.Linear(3 * 16 * 16, 101)
        self.softmax = softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.adaptive_avg_pool3d(x[:, [2, 1, 0]] - 128.0, [16, 4, 4])[:, :, ::1].mean(2)  # (B, 3, 4, 4)
        logits = self.classify(torch.cat([h.flatten(1)] * 16, 1) / 16)
        return logits.softmax(1) if self.softmax else logits


class Lpips(nn.Module):
    """The package's call, and its shape of an answer: pictures in −1..1 → (B, 1, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(3, 8, 3)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (self.convolve(one) - self.convolve(other)).pow(2).mean([1, 2, 3], keepdim=True)


def save_i3d(path: Path, features: int = 400) -> NetworkFile:
    return _saved(I3d(features), path)


def save_c3d(path: Path, softmax: bool = True) -> NetworkFile:
    return _saved(C3d(softmax), path)


def save_lpips(path: Path) -> NetworkFile:
    """Traced, as the real one is."""
    torch.manual_seed(0)
    network, picture = Lpips().eval(), torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        torch.jit.trace(network, (picture, picture)).save(str(path))
    return NetworkFile(file=str(path), sha256=file_sha256(str(path)))


def save_videomae(folder: Path) -> str:
    """A folder in transformers' format: 16 frames of 32x32."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32,
        patch_size=16,
        num_frames=16,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    VideoMAEForVideoClassification(config).save_pretrained(folder)
    return str(folder)


def _saved(network: nn.Module, path: Path) -> NetworkFile:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    torch.jit.script(network.eval()).save(str(path))
    return NetworkFile(file=str(path), sha256=file_sha256(str(path)))
