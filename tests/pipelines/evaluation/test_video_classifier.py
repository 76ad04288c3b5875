from pathlib import Path

import pytest
import torch

from pipelines.evaluation.video_classifier import FEATURES, VideoClassifier

CLASSES = ("left", "right", "still")


@pytest.fixture
def classifier() -> VideoClassifier:
    torch.manual_seed(0)
    return VideoClassifier(classes=CLASSES).eval()


@pytest.mark.parametrize("size", [(8, 32, 32), (16, 48, 64), (3, 20, 20)])
def test_videos_of_any_size_are_classified(classifier: VideoClassifier, size: tuple[int, int, int]) -> None:
    with torch.no_grad():
        found = classifier(torch.rand(2, 3, *size))
    assert found.logits.shape == (2, len(CLASSES))
    assert found.features.shape == (2, FEATURES)


def test_the_order_of_frames_changes_the_features(classifier: VideoClassifier) -> None:
    video = torch.rand(1, 3, 8, 32, 32)
    with torch.no_grad():
        forward, backward = classifier(video).features, classifier(video.flip(2)).features
    assert (forward - backward).abs().max() > 1e-3


def test_saving_and_loading_changes_nothing(classifier: VideoClassifier, tmp_path: Path) -> None:
    classifier.save_pretrained(tmp_path)
    loaded = VideoClassifier.from_pretrained(tmp_path, use_safetensors=True).eval()
    before, after = classifier.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert tuple(loaded.config.classes) == CLASSES
    assert not list(tmp_path.glob("*.bin"))


def test_it_is_tiny_and_refuses_what_is_no_video(classifier: VideoClassifier) -> None:
    assert sum(parameter.numel() for parameter in classifier.parameters()) <= 300_000
    with pytest.raises(ValueError, match="B, 3, T, H, W"):
        classifier(torch.rand(3, 8, 32, 32))
