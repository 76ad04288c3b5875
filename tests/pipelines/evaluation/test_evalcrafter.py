"""EvalCrafter on files in its layouts: prompts in, videos out, metric files in, final scores out."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPConfig

from pipelines.evaluation import prompts
from pipelines.evaluation.claim import ClaimedError
from pipelines.evaluation.evalcrafter import ITS_NAMES, EvalCrafterError, draw, read_prompts, score
from pipelines.evaluation.evalcrafter_clip import ClipScores, is_vit_b_32, measure
from pipelines.evaluation.metrics import EVALCRAFTER_METRICS, evalcrafter_scores
from pipelines.evaluation.prompts import Artist
from pipelines.evaluation.published import EVALCRAFTER
from pipelines.layout import RunLayout
from pipelines.media import read_mp4, write_mp4
from pipelines.recipe import Recipe

# Raw metrics as papers print them, in the order of the keys: times 100 but for those of AS_PRINTED.
PYRAMID_FLOW = (86.09, 88.31, 18.49, 99.90, 0.0019, 98.89, 67.58, 46, 1.79)
PYRAMID_FLOW += (20.73, 23.29, 68.26, 69.55, 47.74, 56.31, 68.55, 44.72)  # arXiv 2410.05954, table 6
SHOW_1 = (23.19, 44.24, 17.65, 99.77, 0.0067, 99.32, 81.56, 50, 2.07)
SHOW_1 += (20.66, 23.24, 68.42, 58.63, 48.55, 44.31, 58.97, 37.93)  # arXiv 2408.08189, table 1
AS_PRINTED = ("VQA_A", "VQA_T", "IS", "warp", "flow")


def raw(printed: tuple[float, ...]) -> dict[str, float]:
    pairs = zip(EVALCRAFTER_METRICS, printed, strict=True)
    return {name: value if name in AS_PRINTED else value / 100 for name, value in pairs}


def published(model: str) -> dict[str, float | None]:
    row = next(row for row in EVALCRAFTER if row.model == model)
    return {name: getattr(row, name) for name in ("visual", "temporal", "motion", "align", "total")}


@pytest.mark.parametrize(("model", "printed"), [("Pyramid Flow", PYRAMID_FLOW), ("Show-1", SHOW_1)])
def test_published_metrics_give_the_published_scores(model: str, printed: tuple[float, ...]) -> None:
    scores = evalcrafter_scores(raw(printed))
    expected = published(model)
    assert round(scores.pop("total")) == expected.pop("total")
    for name, value in expected.items():
        # The metrics are printed with two decimals, and a cosine counts 1,462 times.
        assert value is None or scores[name] == pytest.approx(value, abs=0.08)
    assert sum(value is not None for value in published("Pyramid Flow").values()) == 4


def test_the_formula_worked_by_hand() -> None:
    metrics = dict.fromkeys(EVALCRAFTER_METRICS, 0.0)
    scores = evalcrafter_scores(metrics | {"VQA_A": 100, "IS": 50, "flow": 10, "clip_temp": 1, "celeb": 0.5})
    assert scores["visual"] == pytest.approx(500 * (0.03004555 - 0.00691279 + 0.08707462696))
    assert scores["temporal"] == pytest.approx(500 * (2.92492244 + 0.45475678 - 3.42274050899774))
    assert scores["motion"] == pytest.approx(500 * (-0.010517075 + 0.1297562020899))
    assert scores["align"] == pytest.approx(500 * (0.00372351 + 0.11343101) - 30.683181901)
    assert scores["total"] == pytest.approx(
        sum(scores[name] for name in ("visual", "temporal", "motion", "align"))
    )


def test_a_missing_metric_is_named() -> None:
    metrics = raw(SHOW_1)
    del metrics["ocr"]
    with pytest.raises(ValueError, match="missing: ocr"):
        evalcrafter_scores(metrics)
    with pytest.raises(ValueError, match="not so: flow"):
        evalcrafter_scores(raw(SHOW_1) | {"flow": float("nan")})


# ---------------------------------------------------------------- metric files


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """EvalCrafter's folder of results, as its scripts write it."""
    folder = tmp_path / "results"
    folder.mkdir()
    metrics = raw(PYRAMID_FLOW)
    for key, name in ITS_NAMES.items():
        lines = [
            f"2024-09-01 10:00:00 Vid: 0000.mp4,  Current {name}: 0.5, Current avg. {name}: 0.5,  ",
            f"2024-09-01 10:00:09 Final average {name}: {metrics[key]}, Total videos: 700",
        ]
        (folder / f"{name}_record.txt").write_text("\n".join(lines) + "\n")
    (folder / "IS_record.txt").write_text(
        f"2024-09-01 10:00:00 Inception score of videos: {metrics['IS']}, std: 0.31.\n"
    )
    (folder / "dover.csv").write_text(
        "path, aesthetic score, technical score, overall/final score\n"
        "0000, 71.000000, 64.000000,69.000000\n"
        f"Avg. scores: {metrics['VQA_A']}, {metrics['VQA_T']},87.1\n"
    )
    return folder


def test_its_metric_files_give_the_final_scores(results: Path) -> None:
    (results / "final_result.txt").write_text(
        "Metrics: {'clip_score': 1} Results: Total 3"
    )  # its own summary
    found = score(results)
    assert found["metrics"] == pytest.approx(raw(PYRAMID_FLOW))
    assert found["scores"]["total"] == pytest.approx(243.66, abs=0.01)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ocr_score_record.txt", None, r"lacks 1 of 17 metrics: ocr \(a file ocr_score_record\.txt\)"),
        ("dover.csv", None, r"lacks 2 of 17 metrics: VQA_A .*VQA_T"),
        ("dover.csv", "path, aesthetic\n0000, 71.0, 64.0,69.0\n", r"dover\.csv: the last line must be"),
        ("IS_record.txt", "", r"IS_record\.txt has no final average"),
        ("clip_score_record.txt", "Final average clip_score: 20.73, Total videos: 700", "times 100"),
        ("sd_score_record.txt", "Final average sd_score: nan, Total videos: 0", "sd is nan"),
    ],
)
def test_metric_files_that_give_no_score_are_named(
    results: Path, file: str, text: str | None, message: str
) -> None:
    if text is None:
        (results / file).unlink()
    else:
        (results / file).write_text(text)
    with pytest.raises(EvalCrafterError, match=message):
        score(results)


def test_a_json_file_of_metrics_may_use_its_names_or_ours(tmp_path: Path) -> None:
    ours, its = tmp_path / "ours.json", tmp_path / "its.json"
    ours.write_text(json.dumps(raw(SHOW_1)))
    its.write_text(json.dumps({ITS_NAMES.get(name, name): value for name, value in raw(SHOW_1).items()}))
    assert score(ours) == score(its)
    ours.write_text(json.dumps(raw(SHOW_1) | {"colour_score": 1}))
    with pytest.raises(EvalCrafterError, match="'colour_score' is no metric"):
        score(ours)


# ---------------------------------------------------------------- prompts and videos


def test_prompts_are_numbered_by_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "prompt700.txt"
    file.write_bytes(b"\xef\xbb\xbf2 Dog and a whale\r\na red star \r\n\r\na horse")
    with pytest.raises(EvalCrafterError, match="prompt 0002 is empty"):
        read_prompts(file)
    file.write_bytes(b"2 Dog and a whale\r\na red star \r\na horse\r\n")
    assert read_prompts(file) == ["2 Dog and a whale", "a red star", "a horse"]
    folder = tmp_path / "prompts"
    folder.mkdir()
    for number, prompt in enumerate(read_prompts(file)):
        (folder / f"{number:04d}.txt").write_text(prompt)
    assert read_prompts(folder) == read_prompts(file)
    (folder / "0001.txt").unlink()
    with pytest.raises(EvalCrafterError, match="without a gap"):
        read_prompts(folder)


PROMPTS = ["a red star moves left", "a star", "a red star moves left"]


@pytest.fixture(scope="module")
def artist(evaluation_recipe: Recipe) -> Iterator[Artist]:
    folder = RunLayout(Path(evaluation_recipe.run_directory)).model("low")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "IMAGE_STEPS", 2)
        yield Artist(folder, evaluation_recipe).at(steps=2, frames=4)


def test_every_prompt_becomes_a_video_of_its_number_and_nothing_else_lies_there(
    artist: Artist, tmp_path: Path
) -> None:
    summary = draw(artist, PROMPTS, tmp_path, batch_videos=2)
    videos = tmp_path / "videos"
    # EvalCrafter takes every file of the folder for a video.
    assert sorted(path.name for path in videos.iterdir()) == ["0000.mp4", "0001.mp4", "0002.mp4"]
    assert (summary["drawn"], summary["kept"]) == (3, 0)
    first, _, again = (read_mp4(videos / f"{number:04d}.mp4")[0] for number in range(3))
    assert first.shape == (4, 32, 32, 3)
    assert not np.array_equal(first, again)  # a prompt that comes twice is drawn with two seeds


def test_drawing_goes_on_where_it_stopped_and_refuses_another_model_s_folder(
    artist: Artist, tmp_path: Path
) -> None:
    draw(artist, PROMPTS, tmp_path)
    videos = tmp_path / "videos"
    kept = (videos / "0000.mp4").stat().st_mtime_ns
    gone = read_mp4(videos / "0001.mp4")[0].astype(int)
    (videos / "0001.mp4").unlink()
    (videos / ".0001.mp4.partial").write_bytes(b"what a kill leaves")
    summary = draw(artist, PROMPTS, tmp_path, batch_videos=1)
    assert (summary["drawn"], summary["kept"]) == (1, 2)
    assert (videos / "0000.mp4").stat().st_mtime_ns == kept
    whole = {path.name: path.read_bytes() for path in videos.iterdir()}
    assert sorted(whole) == ["0000.mp4", "0001.mp4", "0002.mp4"]
    # Not to the byte: where weights lie in memory decides the last bit of a product.
    assert np.abs(read_mp4(videos / "0001.mp4")[0] - gone).mean() < 0.5
    for other, wanted, seed in (
        (artist.at(3, 4), PROMPTS, 0),
        (artist, PROMPTS[:2], 0),
        (artist, PROMPTS, 1),
    ):
        with pytest.raises(ClaimedError, match="give another folder"):
            draw(other, wanted, tmp_path, seed=seed)
    (tmp_path / "drawn.json").unlink()
    with pytest.raises(ClaimedError, match="of unknown origin"):
        draw(artist, PROMPTS, tmp_path)
    assert {path.name: path.read_bytes() for path in videos.iterdir()} == whole


# ---------------------------------------------------------------- its metrics of CLIP


@pytest.fixture(scope="module")
def still_and_moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0000.mp4 stands still, 0001.mp4 flickers between two pictures."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 8, 8, 3)).astype(np.uint8).repeat(6, 1).repeat(6, 2)
    write_mp4(folder / "0000.mp4", pictures[[0] * 5], 8)
    write_mp4(folder / "0001.mp4", pictures[[0, 1, 0, 1, 0]], 8)
    return folder


def test_clip_metrics_are_evalcrafters_only_with_its_clip(
    still_and_moving: Path, evaluation_models: dict[str, str]
) -> None:
    metrics = measure(still_and_moving, ["a red star", "a star"], evaluation_models["image_encoder"])
    assert [metric.name for metric in metrics] == [
        "clip_temp_by_another_clip",
        "face_by_another_clip",
        "clip_by_another_clip",
    ]
    assert all(metric.samples == 2 and metric.frames == 5 and metric.fps == 8 for metric in metrics)
    assert all(len(metric.feature_network_sha256 or "") == 64 for metric in metrics)
    assert is_vit_b_32(CLIPConfig())  # transformers' default is openai/clip-vit-base-patch32
    assert not is_vit_b_32(CLIPConfig(vision_config={"patch_size": 16}))


def test_flicker_costs_clip_temp_and_face_consistency(evaluation_models: dict[str, str]) -> None:
    scores = ClipScores(evaluation_models["image_encoder"])
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 256, (2, 40, 40, 3)).astype(np.uint8)
    still = scores.video(np.stack([one, one, one]), "a star")
    flicker = scores.video(np.stack([one, other, one]), "a star")
    assert still["clip_temp"] == pytest.approx(1) == still["face"]
    assert flicker["clip_temp"] < 0.999
    # Of two later frames one is the first again.
    assert flicker["face"] == pytest.approx((flicker["clip_temp"] + 1) / 2, abs=1e-6)
    assert scores.video(np.stack([one, one]), "a red star moves")["clip"] != still["clip"]


def test_pixels_go_into_clip_unnormalised_as_evalcrafter_has_it(evaluation_models: dict[str, str]) -> None:
    import torch

    scores = ClipScores(evaluation_models["image_encoder"])
    frames = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)  # CLIP's own side
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        seen = scores.model.get_image_features(pixel_values=pixels).pooler_output
    expected = torch.nn.functional.cosine_similarity(seen[0], seen[1], dim=0)
    assert scores.video(frames, "a star")["clip_temp"] == pytest.approx(float(expected), abs=1e-6)


def test_a_missing_video_is_named(
    still_and_moving: Path, evaluation_models: dict[str, str], tmp_path: Path
) -> None:
    shutil.copy(still_and_moving / "0001.mp4", tmp_path)
    with pytest.raises(EvalCrafterError, match=r"lacks 2 of 3 videos, the first is 0000\.mp4"):
        measure(tmp_path, ["a", "b", "c"], evaluation_models["image_encoder"])
