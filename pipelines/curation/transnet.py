"""TransNetV2, a network that finds cuts and dissolves, from a weights file given by path.

T. Souček, J. Lokoč: "TransNet V2: An effective deep network architecture for fast shot transition detection",
arXiv 2008.04838; the authors' PyTorch weights (MIT licence), as in `transnetv2-pytorch-weights.pth`. Modules
bear the names that they have in that file.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.curation.shots import CUT_SIDE_PIXELS
from pipelines.curation.video import Picture

HEIGHT, WIDTH = 27, 48
WINDOW, STEP = 100, 50  # frames that the network looks at, of which the middle ones count
EDGE = (WINDOW - STEP) // 2
THRESHOLD = 0.5
LOOKUP = 101  # a frame is compared with so many around it
FILTERS = (16, 32, 64)
DILATIONS = (1, 2, 4, 8)


class DilatedBranch(nn.Module):
    """3x3 in space, then 3 frames `dilation` apart in time."""

    def __init__(self, channels_in: int, channels: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(channels_in, 2 * channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            2 * channels, channels, (3, 1, 1), dilation=(dilation, 1, 1), padding=(dilation, 0, 0), bias=False
        )
        self.layers = nn.ModuleList([space, time])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class DilatedBlock(nn.Module):
    """Four branches side by side, and batch norm."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        for dilation in DILATIONS:
            self.add_module(f"Conv3D_{dilation}", DilatedBranch(channels_in, channels, dilation))
        self.bn = nn.BatchNorm3d(4 * channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.get_submodule(f"Conv3D_{dilation}")(x) for dilation in DILATIONS]
        return self.bn(torch.cat(branches)[None])[0]


class Stack(nn.Module):
    """Two blocks with a shortcut, then half the size."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList(
            [DilatedBlock(channels_in, channels), DilatedBlock(4 * channels, channels)]
        )

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.DDCNN[0](x))
        return F.avg_pool3d(F.relu(self.DDCNN[1](first)) + first, (1, 2, 2))


class Similarities(nn.Module):
    """How alike each frame is to those around it, by some feature of the frames."""

    def __init__(self, features: int | None = None) -> None:
        super().__init__()
        self.projection = nn.Linear(features, 128) if features else None
        self.fc = nn.Linear(LOOKUP, 128)

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) → (T, 128)."""
        x = F.normalize(self.projection(x) if self.projection is not None else x, dim=1)
        frames = len(x)
        table = F.pad(x @ x.T, (LOOKUP // 2, LOOKUP // 2))  # (T, T + 100)
        around = torch.arange(frames, device=x.device)[:, None] + torch.arange(LOOKUP, device=x.device)
        return F.relu(self.fc(table.gather(1, around)))


class TransNetV2(nn.Module):
    """(T, 27, 48, 3) uint8 RGB → (T,) probability that a shot ends with this frame."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *(4 * channels for channels in FILTERS))
        self.SDDCNN = nn.ModuleList([Stack(i, o) for i, o in zip(inputs, FILTERS, strict=False)])
        self.frame_sim_layer = Similarities(4 * sum(FILTERS))
        self.color_hist_layer = Similarities()
        self.fc1 = nn.Linear(4 * FILTERS[-1] * 3 * 6 + 2 * 128, 1024)
        self.cls_layer1 = nn.Linear(1024, 1)
        self.cls_layer2 = nn.Linear(1024, 1)  # marks all frames of a dissolve; in the weights, not used here

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.permute(3, 0, 1, 2).float() / 255  # (3, T, H, W)
        means = []
        for stack in self.SDDCNN:
            x = stack(x)
            means.append(x.mean((2, 3)))
        features = [
            self.color_hist_layer(colour_histograms(frames)),
            self.frame_sim_layer(torch.cat(means).T),
            x.permute(1, 2, 3, 0).flatten(1),
        ]
        hidden = F.relu(self.fc1(torch.cat(features, 1)))  # (T, 1024)
        return torch.sigmoid(self.cls_layer1(hidden))[:, 0]


def colour_histograms(frames: Tensor) -> Tensor:
    """(T, H, W, 3) uint8 → (T, 512): how many pixels have each of 8x8x8 colours."""
    red, green, blue = (frames.int() >> 5).flatten(1, 2).unbind(-1)  # (T, HW)
    colours = ((red << 6) + (green << 3) + blue).long()
    ones = torch.ones_like(colours, dtype=torch.float32)
    return torch.zeros(len(frames), 512, device=frames.device).scatter_add_(1, colours, ones)


def load_transnet(path: str) -> TransNetV2:
    """The network with the weights of a .pth or .safetensors file.

    Raises FileNotFoundError, or ValueError when the file holds another network.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no TransNetV2 weights {path}: set curation.shots.weights")
    network = TransNetV2()
    try:
        network.load_state_dict(_weights(path))
    except Exception as error:  # unpickling and matching names fail in many ways, all with the same mend
        raise ValueError(f"{path} holds no TransNetV2 weights: {str(error).splitlines()[0]}") from error
    return network.eval().requires_grad_(False)


def _weights(path: str) -> Any:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


@cache
def _network(path: str, device: str) -> TransNetV2:
    return load_transnet(path).to(device)


class TransNetCuts:
    """Feeds the network windows of frames as they go by; the first frame after a transition is a cut."""

    lag_frames = WINDOW

    def __init__(self, weights: str, threshold: float | None = None) -> None:
        # A task with a share of a GPU sees it; one without sees none.
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._network = _network(weights, self._device)
        self._threshold = THRESHOLD if threshold is None else threshold
        self._window: list[np.ndarray] = []  # (27, 48, 3) each; the first is frame `_first`
        self._first = -EDGE
        self._inside = False  # a transition

    def feed(self, picture: Picture) -> list[int]:
        import cv2

        small = cv2.resize(picture.small(CUT_SIDE_PIXELS), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        # Before the first frame the network sees that one, as in the authors' code.
        self._window += [small] * (EDGE + 1 if not self._window else 1)
        return self._look() if len(self._window) == WINDOW else []

    def finish(self) -> list[int]:
        cuts: list[int] = []
        if not self._window:
            return cuts
        count = self._first + len(self._window)
        while self._first + EDGE < count:
            self._window += [self._window[-1]] * (WINDOW - len(self._window))
            cuts += [cut for cut in self._look() if cut < count]
        return cuts

    def _look(self) -> list[int]:
        """Cuts among the frames in the middle of a full window, which then moves on."""
        with torch.inference_mode():
            frames = torch.from_numpy(np.stack(self._window)).to(self._device)
            chances = self._network(frames)[EDGE : EDGE + STEP].cpu().numpy()
        cuts = []
        for number, chance in enumerate(chances):
            ends = bool(chance > self._threshold)
            if self._inside and not ends:
                cuts.append(self._first + EDGE + number)
            self._inside = ends
        self._window = self._window[STEP:]
        self._first += STEP
        return cuts
