"""The networks that videos are judged through, by path or address; CLIP is in pipelines.clip_features.

Files are TorchScript, and the recipe pins their SHA-256: another file's numbers are another metric's. Each
network says what frames go through (`resize`), how many it takes (`frame_count`) and its hash.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import torch
import torch.nn.functional as F

from pipelines.cache import cache_folder
from pipelines.curation.decode import DecoderError
from pipelines.curation.reach import is_remote
from pipelines.curation.remote import local_file
from pipelines.evaluation.protocol import VIDEO_FRAMES
from pipelines.evaluation.video_classifier import Classified, VideoClassifier
from pipelines.files import whole_file
from pipelines.fingerprint import file_sha256
from pipelines.model_shapes import model_config
from pipelines.models import frozen, resolve_model, weights_sha256
from pipelines.recipe.evaluation import FeatureNetworkSettings, NetworkFile


class FeatureNetworkError(RuntimeError):
    """A feature network that is not there, is another one, or answers wrongly; says what to do."""


class VideoNetwork(Protocol):
    """What makes numbers of a video, for a Fréchet distance or an inception score."""

    sha256: str
    resize: str

    @property
    def frame_count(self) -> int:
        """Frames that are looked at: the first ones of a longer video."""

    def video(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 → (D,) float32. Raises ValueError for fewer than `frame_count` frames."""


# ---------------------------------------------------------------- files


def local_network(network: NetworkFile) -> Path:
    """A path on this machine of the very file that the recipe pins.

    An address (https, s3, gs) is fetched once into the cache folder, under its hash. Raises
    FeatureNetworkError when it cannot be had, or has another hash, which is named.
    """
    if not is_remote(network.file):
        path = Path(network.file)
        if not path.is_file():
            raise FeatureNetworkError(f"no network file {path}; give its path or an address")
        _check(path, network)
        return path
    kept = cache_folder("networks") / (network.sha256 + PurePosixPath(urlsplit(network.file).path).suffix[:8])
    if not (kept.is_file() and file_sha256(str(kept)) == network.sha256):
        _fetch(network, kept)
    return kept


def _fetch(network: NetworkFile, kept: Path) -> None:
    try:
        with local_file(network.file) as fetched:
            _check(Path(fetched), network)
            with whole_file(kept) as partial:
                shutil.copyfile(fetched, partial)
    except DecoderError as error:
        raise FeatureNetworkError(f"{network.shown} cannot be fetched: {error.reason}") from error


def _check(path: Path, network: NetworkFile) -> None:
    found = file_sha256(str(path))
    if found != network.sha256:
        raise FeatureNetworkError(
            f"{network.shown} has the SHA-256 {found}, but the recipe pins {network.sha256}: get the pinned "
            "file, or write the found hash into the recipe if this is the network that is meant"
        )


# ---------------------------------------------------------------- networks


class Torchscript:
    """A TorchScript file, checked and loaded."""

    def __init__(self, network: NetworkFile, device: str) -> None:
        path = local_network(network)
        try:
            self.module: Any = torch.jit.load(str(path), map_location=device).eval()
        except RuntimeError as error:
            raise FeatureNetworkError(f"{network.shown} is no TorchScript file: {error}") from error
        self.shown, self.sha256, self.device = network.shown, network.sha256, device

    @torch.inference_mode()
    def __call__(self, *inputs: torch.Tensor, **options: bool) -> np.ndarray:
        """The answer to a batch of one, (D,) float32."""
        try:
            answer = self.module(*(tensor.to(self.device) for tensor in inputs), **options)
        except RuntimeError as error:  # TorchScript's own errors, of arguments too, are these
            raise FeatureNetworkError(f"{self.shown} cannot be called as it must be: {error}") from error
        if not isinstance(answer, torch.Tensor) or answer.shape[:1] != (1,):
            raise FeatureNetworkError(
                f"{self.shown} must give a row for each video, not {getattr(answer, 'shape', type(answer))}"
            )
        return answer.flatten().float().cpu().numpy()


class I3dFeatures:
    """I3D of Kinetics-400 as StyleGAN-V has it (Skorokhodov et al. 2022, arXiv 2112.14683): FVD's features.

    Its `i3d_torchscript.pt` is called as `net(videos, rescale=True, resize=True, return_features=True)` with
    videos (B, 3, 16, H, W) float32 in 0..255, RGB, and gives (B, 400).
    """

    resize = "squeezed to 224x224, trilinear, inside the network"
    frame_count = VIDEO_FRAMES

    def __init__(self, network: NetworkFile, device: str = "cpu") -> None:
        self.network = Torchscript(network, device)
        self.sha256 = network.sha256

    def video(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 → (400,)."""
        videos = _batch_of_one(first_frames(frames, self.frame_count))
        return self.network(videos, rescale=True, resize=True, return_features=True)


class C3dClasses:
    """C3D fine-tuned on UCF101 (Tran et al. 2015; the weights of TGAN, arXiv 1611.06624): for IS.

    StyleGAN-V's `c3d_ucf101.pt`, TGAN2's network as TorchScript, is called as `net(videos)` with videos
    (B, 3, 16, H, W) float32 in 0..255, RGB, and gives softmax probabilities (B, 101). What TGAN2 does with
    frames is part of it: 112x112 without a crop, RGB to BGR, the mean video of its training taken off.
    """

    resize = "squeezed to 112x112, BGR, mean video subtracted, inside the network"
    frame_count = VIDEO_FRAMES

    def __init__(self, network: NetworkFile, device: str = "cpu") -> None:
        self.network = Torchscript(network, device)
        self.sha256 = network.sha256

    def video(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 → (101,) probabilities. Raises FeatureNetworkError when they are none."""
        found = self.network(_batch_of_one(first_frames(frames, self.frame_count)))
        if found.min() < -1e-4 or abs(float(found.sum()) - 1) > 1e-3:
            raise FeatureNetworkError(
                f"{self.network.shown} must give probabilities, but a row sums to {found.sum():.4g}, least "
                f"value {found.min():.4g}; save the network with its softmax"
            )
        return found


class VideoMaeFeatures:
    """VideoMAE's features before its classifier: content-debiased FVD (Ge et al. 2024, arXiv 2404.12391).

    A folder of transformers' VideoMAEForVideoClassification. Frames go in as the authors' `cd-fvd` does it:
    squeezed bilinearly without antialiasing, in 0..1 without ImageNet's normalisation; mean of all tokens,
    then the last norm. `cd-fvd` itself has a ViT-g of VideoMAE v2, fine-tuned on Something-Something v2
    (1,408 numbers): other weights give other numbers, and their hash stands beside each. Where it repeats
    videos until it has enough, nothing is repeated here.
    """

    def __init__(self, folder: str, device: str = "cpu") -> None:
        from transformers import VideoMAEForVideoClassification

        self.device = device
        model = VideoMAEForVideoClassification.from_pretrained(resolve_model(folder), use_safetensors=True)
        model.classifier = torch.nn.Identity()
        self.model = frozen(model).to(device)
        self.sha256 = weights_sha256(folder)
        self.frame_count, self.side_pixels = int(model.config.num_frames), int(model.config.image_size)
        self.resize = videomae_resize(model.config.to_dict())

    @torch.inference_mode()
    def video(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 → (D,)."""
        pixels = torch.from_numpy(first_frames(frames, self.frame_count)).to(self.device)
        pixels = pixels.permute(0, 3, 1, 2).float() / 255  # (T, 3, H, W)
        pixels = F.interpolate(pixels, (self.side_pixels, self.side_pixels), mode="bilinear")
        return self.model(pixel_values=pixels[None]).logits[0].float().cpu().numpy()


class ClassifierFeatures:
    """Features and classes of a VideoClassifier folder."""

    def __init__(self, path: str, device: str = "cpu") -> None:
        self.device = device
        self.model = frozen(VideoClassifier.from_pretrained(resolve_model(path), use_safetensors=True)).to(
            device
        )
        self.sha256 = weights_sha256(path)
        self.classes = tuple(self.model.config.classes)
        self.resize = classifier_resize(self.model.config)

    @property
    def frame_count(self) -> int:
        return int(self.model.config.frames)

    def video(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 → (64,)."""
        return self.look(frames)[0]

    @torch.inference_mode()
    def look(self, frames: np.ndarray) -> tuple[np.ndarray, str]:
        """(T, H, W, 3) uint8 → features (64,), the most probable class."""
        seen: Classified = self.model(_batch_of_one(frames).to(self.device) / 255)
        return seen.features[0].float().cpu().numpy(), self.classes[int(seen.logits[0].argmax())]


class LpipsDistance:
    """Learned perceptual distance of two pictures (Zhang et al. 2018, arXiv 1801.03924).

    A TorchScript file called as `net(first, second)` with pictures (B, 3, H, W) float32 in −1..1, RGB, that
    gives B distances. Three lines make it where the package `lpips` is installed:

        net, picture = lpips.LPIPS(net="alex").eval(), torch.zeros(1, 3, 64, 64)
        with torch.no_grad():
            torch.jit.trace(net, (picture, picture)).save("lpips_alex.pt")
    """

    def __init__(self, network: NetworkFile, device: str = "cpu") -> None:
        self.network = Torchscript(network, device)
        self.sha256 = network.sha256

    def __call__(self, frame: np.ndarray, reference: np.ndarray) -> float:
        """Pictures (H, W, 3) uint8 → distance; 0: alike."""
        pictures = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] for picture in (frame, reference))
        found = self.network(*(picture.float() / 127.5 - 1 for picture in pictures))
        if found.size != 1:
            raise FeatureNetworkError(
                f"{self.network.shown} must give one distance for a pair of pictures, not {found.size}"
            )
        return float(found[0])


# ---------------------------------------------------------------- what they are, without loading them


@dataclass(frozen=True)
class NetworkNote:
    """What stands beside every number that comes through a network."""

    sha256: str
    resize: str


def network_notes(
    clip: str, video_classifier: str | None, files: FeatureNetworkSettings
) -> dict[str, NetworkNote]:
    """A note for each network that is given: clip, classifier, i3d, videomae, c3d, lpips."""
    notes = {"clip": NetworkNote(weights_sha256(clip), "squeezed bicubic to CLIP's side")}
    if video_classifier is not None:
        config = VideoClassifier.load_config(resolve_model(video_classifier))
        notes["classifier"] = NetworkNote(weights_sha256(video_classifier), classifier_resize(config))
    if files.i3d is not None:
        notes["i3d"] = NetworkNote(files.i3d.sha256, I3dFeatures.resize)
    if files.videomae is not None:
        config = model_config(files.videomae)
        notes["videomae"] = NetworkNote(weights_sha256(files.videomae), videomae_resize(config))
    if files.c3d is not None:
        notes["c3d"] = NetworkNote(files.c3d.sha256, C3dClasses.resize)
    if files.lpips is not None:
        notes["lpips"] = NetworkNote(files.lpips.sha256, "none")
    return notes


def classifier_classes(video_classifier: str | None) -> tuple[str, ...]:
    """What a VideoClassifier folder tells apart; nothing without one."""
    if video_classifier is None:
        return ()
    return tuple(VideoClassifier.load_config(resolve_model(video_classifier))["classes"])


def classifier_resize(config: Mapping[str, Any]) -> str:
    side = config["side_pixels"]
    return f"{config['frames']} frames spread evenly, squeezed to {side}x{side}, bilinear with antialiasing"


def videomae_resize(config: Mapping[str, Any]) -> str:
    side = config.get("image_size", 224)  # VideoMAEConfig's own, which config.json may leave out
    return f"squeezed to {side}x{side}, bilinear, 0..1, not normalised"


def fetch_networks(networks: FeatureNetworkSettings) -> None:
    """Have every network of a recipe here and checked, before anything that takes long begins."""
    for network in (networks.i3d, networks.c3d, networks.lpips):
        if network is not None:
            local_network(network)
    if networks.videomae is not None and (fault := videomae_fault(networks.videomae)):
        raise FeatureNetworkError(fault)


def videomae_fault(folder: str) -> str | None:
    """What is wrong with a VideoMAE folder, if anything."""
    try:
        found = resolve_model(folder)
    except FileNotFoundError as error:
        return str(error)
    config = model_config(folder)
    if config.get("model_type") != "videomae" or not any(found.glob("*.safetensors")):
        return f"{found} is no VideoMAEForVideoClassification folder with .safetensors weights"
    if (frames := config.get("num_frames", VIDEO_FRAMES)) != VIDEO_FRAMES:
        return f"{found} takes {frames} frames, content-debiased FVD {VIDEO_FRAMES}; give another folder"
    return None


def first_frames(frames: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of frames (T, H, W, 3). Raises ValueError when there are fewer."""
    if len(frames) < count:
        raise ValueError(f"the network takes {count} frames, the video has {len(frames)}")
    return frames[:count]


def _batch_of_one(frames: np.ndarray) -> torch.Tensor:
    """(T, H, W, 3) uint8 → (1, 3, T, H, W) float32 in 0..255."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None].float()
