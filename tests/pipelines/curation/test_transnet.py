"""TransNetV2 with random weights: windows, cuts, files, fingerprints."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from pipelines.curation.score import score_video, scoring_fingerprint, scoring_settings
from pipelines.curation.transnet import (
    EDGE,
    HEIGHT,
    STEP,
    WIDTH,
    WINDOW,
    TransNetCuts,
    TransNetV2,
    load_transnet,
)
from pipelines.curation.video import Picture
from pipelines.recipe import CurationSettings


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    network = TransNetV2()
    torch.nn.init.normal_(network.cls_layer1.weight, std=1.0)  # so that frames differ in their answers
    path = tmp_path_factory.mktemp("transnet") / "random.pth"
    torch.save(network.state_dict(), path)
    return str(path)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 27, 48, 3), np.uint8)


@pytest.mark.parametrize("count", [7, 60, 131])
def test_windows_that_stream_by_give_what_the_padded_video_gives_at_once(weights: str, count: int) -> None:
    frames = pictures(count)
    rest = -count % STEP
    padded = np.concatenate([[frames[0]] * EDGE, frames, [frames[-1]] * (EDGE + rest)])
    network = load_transnet(weights)
    chances = torch.cat(
        [
            network(torch.from_numpy(padded[first : first + WINDOW]))[EDGE : EDGE + STEP]
            for first in range(0, count, STEP)
        ]
    )[:count]
    threshold = float(chances.median())
    ends = (chances > threshold).tolist()
    expected = [i for i in range(1, count) if ends[i - 1] and not ends[i]]
    detector = TransNetCuts(weights, threshold)
    found = []
    for index, frame in enumerate(frames):
        new = detector.feed(Picture(index, av.VideoFrame.from_ndarray(frame, format="rgb24"), WIDTH, HEIGHT))
        assert all(index - cut <= detector.lag_frames for cut in new)
        found += new
    assert found + detector.finish() == expected
    assert expected


def test_a_video_without_frames_has_no_cuts(weights: str) -> None:
    assert TransNetCuts(weights).finish() == []


def test_a_file_of_other_weights_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth holds no TransNetV2 weights"):
        load_transnet(str(tmp_path / "other.pth"))
    with pytest.raises(FileNotFoundError, match=r"curation\.shots\.weights"):
        load_transnet(str(tmp_path / "none.pth"))


def curation(weights: str) -> CurationSettings:
    shots = {"detector": "transnetv2", "weights": weights}
    return CurationSettings.model_validate({"tiers": {"only": ["8x32x32"]}, "shots": shots})


def test_scores_depend_on_the_weights_and_not_on_where_they_lie(weights: str, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pth"
    moved.write_bytes(Path(weights).read_bytes())
    stamp = scoring_fingerprint(curation(weights))
    assert scoring_fingerprint(curation(str(moved))) == stamp
    network = load_transnet(weights)
    torch.nn.init.zeros_(network.fc1.bias)
    torch.save(network.state_dict(), moved)
    assert scoring_fingerprint(curation(str(moved))) != stamp


def test_pass_1_divides_a_file_where_the_network_says(
    weights: str, tmp_path: Path, make_video, make_scene
) -> None:
    path = make_video(tmp_path / "v.mp4", make_scene(0, 60), fps=24)
    rows = score_video(str(path), scoring_settings(curation(weights)))
    starts = [row["shot_start_seconds"] for row in rows]
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert rows[-1]["shot_end_seconds"] == pytest.approx(60 / 24, abs=0.01)
