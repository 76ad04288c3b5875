"""What is worse measures worse, in the metric that is there for it: SpriteWorld clips, spoilt by hand."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines.evaluation.feature_networks import classifier_classes, network_notes
from pipelines.evaluation.groups import Setting
from pipelines.evaluation.measure import Measurer, Networks, video_path, vocabulary_of
from pipelines.evaluation.reference import EvaluationClip
from pipelines.evaluation.summary import flat, summarise
from pipelines.media import read_mp4, write_mp4
from pipelines.recipe import FeatureNetworkSettings

CLIP, CLASSIFIER = "embedded://clip", "embedded://video_classifier"
SIDE, FPS = 48, 8
Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noise(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(frames + rng.normal(0, 40, frames.shape), 0, 255).astype(np.uint8)


def shuffled(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return frames[np.concatenate([[0], 1 + rng.permutation(len(frames) - 1)])]


def frozen(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.repeat(frames[:1], len(frames), 0)


def blurred(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in frames])


def exchanged(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole videos, but of another clip."""
    return frames


def greyed(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As bright as grey on the mean, whatever it was."""
    return np.clip(frames + (127.5 - frames.mean()), 0, 255).astype(np.uint8)


def unspoilt(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return frames


def small(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames])


def evaluation_clips(table: Path) -> list[EvaluationClip]:
    with table.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] in ("train", "held_out")]
    rows = [row for row in rows if row["camera"] == "still" and len(json.loads(row["sprites"])) == 1][:16]
    return [
        EvaluationClip(
            set="sprites",
            clip_id=row["videoid"],
            uri=row["contentUrl"],
            start_seconds=0.0,
            frames=8,
            height=SIDE,
            width=SIDE,
            fps=FPS,
            caption=row["name"],
            appearance_caption=row["name"],
            motion_caption=row["name"],
            objects=tuple(json.loads(row["sprites"])),
        )
        for row in rows
    ]


@pytest.fixture(scope="module")
def measured(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """{how the videos were spoilt: metrics}"""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    clips = evaluation_clips(sprites / "sprites.csv")
    networks = Networks(CLIP, CLASSIFIER, FeatureNetworkSettings())
    measurer = Measurer(networks, vocabulary_of(clips))
    setting = Setting(
        first_set="sprites",
        vocabulary=vocabulary_of(clips),
        fps=FPS,
        size="8x48x48",
        seed=0,
        dynamic_threshold=0.05,
        few_clips=False,
        networks=network_notes(CLIP, CLASSIFIER, networks.files),
        classes=classifier_classes(CLASSIFIER),
    )
    found, real_rows = {}, []
    videos = [small(read_mp4(sprites / clip.uri)[0][::2]) for clip in clips]
    for spoil in (unspoilt, noise, shuffled, frozen, blurred, exchanged, greyed):
        folder = tmp_path_factory.mktemp(spoil.__name__)
        rng = np.random.default_rng(0)
        for number, clip in enumerate(clips):
            write_mp4(video_path(folder, "ground_truth", clip), videos[number], FPS)
            chosen = videos[number - 1] if spoil is exchanged else videos[number]
            write_mp4(video_path(folder, "generated", clip), spoil(chosen, rng), FPS)
        real_rows = real_rows or [measurer.measure(folder, "ground_truth", clip) for clip in clips]
        drawn = [measurer.measure(folder, "generated", clip) for clip in clips]
        found[spoil.__name__] = flat(summarise([*drawn, *real_rows], setting)[0])
    return found


def distance(metrics: dict[str, float]) -> float:
    (name,) = (n for n in metrics if n.startswith("fvd_tiny_classifier_n") and n.endswith("8f"))
    return metrics[name]


def test_unspoilt_videos_measure_as_real_ones_do(measured: dict[str, dict[str, float]]) -> None:
    good = measured["unspoilt"]
    assert good["motion_accuracy"] == good["motion_accuracy_ground_truth"] > 0.9
    assert good["motion_class_accuracy"] == good["motion_class_accuracy_ground_truth"] > 0.8
    assert good["leakage"] == good["leakage_ground_truth"] < 0.3
    assert good["first_frame_psnr_db"] == 100
    assert distance(good) < 1e-6


@pytest.mark.parametrize("how", ["noise", "shuffled", "frozen", "blurred"])
def test_the_frechet_distance_grows(measured: dict[str, dict[str, float]], how: str) -> None:
    assert distance(measured[how]) > distance(measured["unspoilt"]) + 0.05


@pytest.mark.parametrize("how", ["shuffled", "frozen", "exchanged"])
def test_motion_accuracy_falls_by_flow_and_by_the_classifier(
    measured: dict[str, dict[str, float]], how: str
) -> None:
    for name in ("motion_accuracy", "motion_class_accuracy"):
        assert measured[how][name] < measured["unspoilt"][name] - 0.2


@pytest.mark.parametrize("how", ["noise", "shuffled"])
def test_frames_that_do_not_go_together_have_a_greater_warping_error_and_less_consistency(
    measured: dict[str, dict[str, float]], how: str
) -> None:
    assert measured[how]["warping_error"] > measured["unspoilt"]["warping_error"]
    assert measured[how]["frame_consistency"] < measured["unspoilt"]["frame_consistency"]


def test_frozen_videos_do_not_move_repeat_their_image_and_leak(measured: dict[str, dict[str, float]]) -> None:
    good, still = measured["unspoilt"], measured["frozen"]
    assert still["dynamic_degree"] == 0 < good["dynamic_degree"]
    assert still["leakage"] == 1
    assert still["image_repetition"] > 0.97 > good["image_repetition"] + 0.1
    assert still["flow_score"] < 0.2 * good["flow_score"]
    # Which is why these two never stand alone: a frozen video has the best of both.
    assert still["frame_consistency"] > good["frame_consistency"]
    assert still["warping_error"] < good["warping_error"]


@pytest.mark.parametrize("how", ["noise", "blurred", "exchanged"])
def test_another_first_frame_has_less_fidelity(measured: dict[str, dict[str, float]], how: str) -> None:
    assert measured[how]["first_frame_psnr_db"] < 40
    assert measured[how]["first_frame_ssim"] < 0.95
    assert measured["shuffled"]["first_frame_psnr_db"] > measured[how]["first_frame_psnr_db"]


@pytest.mark.parametrize("how", ["noise", "shuffled", "frozen", "blurred", "exchanged"])
def test_another_future_has_less_fidelity(measured: dict[str, dict[str, float]], how: str) -> None:
    assert measured["unspoilt"]["later_frames_psnr_db"] == 100
    assert measured[how]["later_frames_psnr_db"] < 40
    assert "later_frames_psnr_db_ground_truth" not in measured[how]


def test_videos_that_are_all_as_bright_as_grey_are_not_as_bright_as_real_ones(
    measured: dict[str, dict[str, float]],
) -> None:
    grey = measured["greyed"]
    assert grey["brightness_distance"] > 0.03
    assert grey["brightness_distance_low"] < grey["brightness_distance"] < grey["brightness_distance_high"]
    # Of the set as a whole: which clip is bright makes no difference.
    for how in ("unspoilt", "exchanged"):
        assert measured[how]["brightness_distance"] < 1e-6
    assert "brightness_distance_ground_truth" not in grey


def test_videos_of_other_clips_fit_their_prompts_less(measured: dict[str, dict[str, float]]) -> None:
    assert measured["exchanged"]["prompt_consistency"] < measured["unspoilt"]["prompt_consistency"] - 0.05
    assert distance(measured["exchanged"]) < 0.01  # as a whole they are the same videos
