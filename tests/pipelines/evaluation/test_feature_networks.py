"""Feature networks: the file that the recipe pins, called as its makers call it."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.cache import cache_folder
from pipelines.evaluation.feature_networks import (
    C3dClasses,
    ClassifierFeatures,
    FeatureNetworkError,
    I3dFeatures,
    LpipsDistance,
    VideoMaeFeatures,
    local_network,
)
from pipelines.evaluation.video_classifier import VideoClassifier
from pipelines.models import weights_sha256
from tests.pipelines.evaluation import tiny_networks


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 24, 40, 3)).astype(np.uint8)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """(address that serves `tmp_path`, paths that were asked for); an own cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(f"{self.command} {self.path}")

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()


def test_i3d_gets_the_first_sixteen_frames_in_0_to_255_and_gives_400_features(
    tmp_path: Path, frames: np.ndarray
) -> None:
    network = tiny_networks.save_i3d(tmp_path / "i3d_torchscript.pt")
    features = I3dFeatures(network).video(frames)
    videos = torch.from_numpy(frames[:16]).permute(3, 0, 1, 2)[None].float()
    with torch.no_grad():
        asked = torch.jit.load(network.file)(videos, rescale=True, resize=True, return_features=True)
    assert features.shape == (400,)
    np.testing.assert_allclose(features, asked[0].numpy(), rtol=1e-5)
    shuffled = frames[np.random.default_rng(1).permutation(16)]
    assert np.abs(I3dFeatures(network).video(shuffled) - features).max() > 1e-4


def test_c3d_gives_probabilities_and_logits_are_refused(tmp_path: Path, frames: np.ndarray) -> None:
    probabilities = C3dClasses(tiny_networks.save_c3d(tmp_path / "c3d.pt")).video(frames)
    assert probabilities.shape == (101,)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    logits = tiny_networks.save_c3d(tmp_path / "logits.pt", softmax=False)
    with pytest.raises(FeatureNetworkError, match="softmax"):
        C3dClasses(logits).video(frames)


def test_videomae_gives_what_its_classifier_reads(tmp_path: Path, frames: np.ndarray) -> None:
    from transformers import VideoMAEForVideoClassification

    folder = tiny_networks.save_videomae(tmp_path / "videomae")
    network = VideoMaeFeatures(folder)
    features = network.video(frames)
    assert features.shape == (32,)
    assert (network.frame_count, network.sha256) == (16, weights_sha256(folder))
    model = VideoMAEForVideoClassification.from_pretrained(folder).eval()
    pixels = torch.from_numpy(frames[:16]).permute(0, 3, 1, 2).float() / 255
    pixels = torch.nn.functional.interpolate(pixels, (32, 32), mode="bilinear")
    with torch.no_grad():
        logits = model(pixel_values=pixels[None]).logits[0]
        again = model.classifier(torch.from_numpy(features))
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-5)


def test_lpips_is_zero_for_equal_pictures_and_grows_with_their_distance(
    tmp_path: Path, frames: np.ndarray
) -> None:
    distance = LpipsDistance(tiny_networks.save_lpips(tmp_path / "lpips.pt"))
    near = np.clip(frames[0].astype(int) + 10, 0, 255).astype(np.uint8)
    assert distance(frames[0], frames[0]) == 0
    assert 0 < distance(near, frames[0]) < distance(frames[1], frames[0])


def test_the_classifier_names_the_most_probable_class(tmp_path: Path, frames: np.ndarray) -> None:
    torch.manual_seed(0)
    model = VideoClassifier(classes=("left", "right", "up")).eval()
    model.save_pretrained(tmp_path)
    features, seen = ClassifierFeatures(str(tmp_path)).look(frames)
    with torch.no_grad():
        told = model(torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 255)
    np.testing.assert_allclose(features, told.features[0].numpy(), rtol=1e-4, atol=1e-6)
    assert seen == model.config.classes[int(told.logits.argmax())]


def test_too_few_frames_are_refused(tmp_path: Path, frames: np.ndarray) -> None:
    network = I3dFeatures(tiny_networks.save_i3d(tmp_path / "i3d.pt"))
    with pytest.raises(ValueError, match="takes 16 frames, the video has 8"):
        network.video(frames[:8])


def test_another_file_than_the_pinned_one_is_refused_with_the_hash_that_was_found(tmp_path: Path) -> None:
    pinned = tiny_networks.save_i3d(tmp_path / "i3d.pt")
    other = tiny_networks.save_i3d(tmp_path / "other.pt", features=8)
    with pytest.raises(FeatureNetworkError, match=other.sha256):
        local_network(pinned.model_copy(update={"file": other.file}))
    with pytest.raises(FeatureNetworkError, match=r"no network file .*missing\.pt"):
        local_network(pinned.model_copy(update={"file": str(tmp_path / "missing.pt")}))


def test_what_is_no_network_or_answers_otherwise_is_refused(tmp_path: Path, frames: np.ndarray) -> None:
    from pipelines.fingerprint import file_sha256
    from pipelines.recipe import NetworkFile

    text = tmp_path / "text.pt"
    text.write_text("weights")
    with pytest.raises(FeatureNetworkError, match=r"text\.pt is no TorchScript file"):
        I3dFeatures(NetworkFile(file=str(text), sha256=file_sha256(str(text))))
    with pytest.raises(FeatureNetworkError, match=r"c3d\.pt cannot be called"):
        I3dFeatures(tiny_networks.save_c3d(tmp_path / "c3d.pt")).video(frames)


def test_a_network_at_an_address_is_fetched_once_and_again_when_its_copy_is_damaged(
    tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    pinned = tiny_networks.save_lpips(tmp_path / "lpips.pt")
    remote = pinned.model_copy(update={"file": f"{address}/lpips.pt?dl=1"})
    kept = local_network(remote)
    assert kept.parent == cache_folder("networks")
    assert kept.name == f"{pinned.sha256}.pt"
    assert kept.read_bytes() == Path(pinned.file).read_bytes()
    before = len(asked)
    assert local_network(remote) == kept
    assert len(asked) == before
    kept.write_bytes(b"half a network")
    assert local_network(remote).read_bytes() == Path(pinned.file).read_bytes()
    assert [path.name for path in cache_folder("networks").iterdir()] == [kept.name]  # nothing unfinished


def test_a_fetched_file_of_another_hash_is_refused_and_not_kept(
    tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    address, _ = server
    pinned = tiny_networks.save_lpips(tmp_path / "lpips.pt")
    other = pinned.model_copy(update={"file": f"{address}/lpips.pt", "sha256": "0" * 64})
    with pytest.raises(FeatureNetworkError, match=pinned.sha256):
        local_network(other)
    assert not cache_folder("networks").exists()
    missing = pinned.model_copy(update={"file": f"{address}/nothing.pt"})
    with pytest.raises(FeatureNetworkError, match="not_found"):
        local_network(missing)
