"""Published protocols and given images: the whole of an evaluation with every feature network."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.evaluation.images import image_clips
from pipelines.evaluation.protocol import cd_fvd_name, fvd_name, inception_score_name
from pipelines.evaluation.reference import EvaluationError, read_evaluation_clips
from pipelines.evaluation.run import evaluate
from pipelines.layout import RunLayout
from pipelines.media import read_mp4
from pipelines.models import weights_sha256
from pipelines.preflight.evaluation import evaluation_faults
from pipelines.recipe import EvaluationSet, FeatureNetworkSettings, Recipe
from tests.pipelines.evaluation import evaluation_world, tiny_networks

CLIPS, IMAGES = 12, 3
pytestmark = pytest.mark.usefixtures("ray")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> FeatureNetworkSettings:
    folder = tmp_path_factory.mktemp("networks")
    return FeatureNetworkSettings(
        i3d=tiny_networks.save_i3d(folder / "i3d_torchscript.pt"),
        c3d=tiny_networks.save_c3d(folder / "c3d_ucf101.pt"),
        lpips=tiny_networks.save_lpips(folder / "lpips_alex.pt"),
        videomae=tiny_networks.save_videomae(folder / "videomae"),
    )


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory,
    sprites: Path,
    evaluation_models: dict[str, str],
    networks: FeatureNetworkSettings,
) -> Recipe:
    """Clips of 16 frames, given images, every network; asked for with few clips."""
    from pipelines.training.run import build_pipeline

    mark = tmp_path_factory.mktemp("mark") / "watermark.png"
    Image.fromarray(np.eye(96, dtype=np.uint8) * 255).save(mark)
    recipe = evaluation_world.recipe(
        tmp_path_factory.mktemp("protocol_run"),
        sprites / "sprites.csv",
        evaluation_models,
        bucket="16x32x32",
        fps=16,
        sets=[
            {"name": "real", "split": "train", "clips": CLIPS},
            {"name": "images", "images": "images.csv", "clips": IMAGES},
        ],
        untrained_clips=0,
        watermark=str(mark),
        networks=networks.model_dump(),
        allow_few_clips=True,
        sampling={"steps": 1, "guidance_scale_text": 1.0, "guidance_rescale": 0.0},
    )
    evaluation_world.write_clip_table(recipe)
    build_pipeline(recipe).save_pretrained(Path(recipe.run_directory) / "train" / "low" / "model")
    return recipe


def without_permission(recipe: Recipe) -> Recipe:
    return changed(recipe, allow_few_clips=False)


def changed(recipe: Recipe, **settings: Any) -> Recipe:
    assert recipe.evaluate is not None
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=settings)})


@pytest.fixture(scope="module")
def report(recipe: Recipe) -> dict[str, Any]:
    """metrics.json, with its folder and its metrics by name."""
    evaluate(recipe)
    folder = RunLayout(Path(recipe.run_directory)).evaluation("final")
    found = json.loads((folder / "metrics.json").read_text())
    return found | {"folder": folder, "named": {metric["name"]: metric for metric in found["metrics"]}}


def test_numbers_of_few_clips_say_so_in_their_names_and_carry_the_network_s_hash(
    report: dict[str, Any], networks: FeatureNetworkSettings
) -> None:
    assert networks.i3d is not None
    assert networks.c3d is not None
    assert networks.lpips is not None
    assert networks.videomae is not None
    for name, sha256 in {
        "fvd_i3d_n12_16f": networks.i3d.sha256,
        "cd_fvd_n12_16f": weights_sha256(networks.videomae),
        "is_c3d_ucf101_n12_10splits": networks.c3d.sha256,
        "is_c3d_ucf101_n12_10splits_ground_truth": networks.c3d.sha256,
        "first_frame_lpips": networks.lpips.sha256,
    }.items():
        metric = report["named"][name]
        assert metric["feature_network_sha256"] == sha256
        assert (metric["samples"], metric["frames"], metric["fps"]) == (CLIPS, 16, 16)
        low, high = metric["interval"]
        assert low <= metric["value"] <= high
        assert low < high
    assert report["named"]["fvd_i3d_n12_16f"]["value"] > 0
    assert 1 <= report["named"]["is_c3d_ucf101_n12_10splits"]["value"] <= 101
    assert "first_frame_lpips_ground_truth" not in report["named"]


def test_given_images_are_animated_and_judged_by_themselves(report: dict[str, Any], recipe: Recipe) -> None:
    folder, named = report["folder"], report["named"]
    clips = [clip for clip in read_evaluation_clips(folder / "clips.jsonl") if clip.set == "images"]
    assert len(clips) == IMAGES
    for clip in clips:
        assert read_mp4(folder / "videos" / "images" / f"{clip.clip_id}.mp4")[0].shape == (16, 32, 32, 3)
        with Image.open(folder / "reference" / "images" / f"{clip.clip_id}.png") as image:
            assert image.size == (32, 32)
    assert len({clip.uri for clip in clips}) == 1  # one image, three captions
    assert len({clip.motion_caption for clip in clips}) == IMAGES
    for name in (
        "first_frame_psnr_db",
        "first_frame_lpips",
        "image_repetition",
        "frame_consistency",
        "prompt_consistency",
        "dynamic_degree",
        "flow_score",
        "warping_error",
        "motion_accuracy",
        "leakage",
        "watermark_correlation",
        "watermark_share",
    ):
        assert named[f"{name}_images"]["samples"] in (IMAGES, IMAGES - 1)  # one may be asked to stand still
    # Nothing to compare with, so no distance; and beside a set with real videos, theirs.
    assert not [
        name for name in named if name.endswith("ground_truth_images") or ("fvd" in name and "images" in name)
    ]
    assert {"image_repetition_ground_truth", "leakage_ground_truth"} <= set(named)


def test_given_images_are_measured_again_from_the_saved_files_alone(
    report: dict[str, Any], recipe: Recipe
) -> None:
    (report["folder"] / "metrics.json").unlink()
    assert evaluate(recipe, recompute=True)["metrics"] == report["summary"]


def test_names_are_those_of_the_protocol_only_where_it_was_kept() -> None:
    assert (fvd_name(2048), fvd_name(256)) == ("fvd2048_16f", "fvd_i3d_n256_16f")
    assert (cd_fvd_name(4096), cd_fvd_name(12)) == ("cd_fvd4096_16f", "cd_fvd_n12_16f")
    assert inception_score_name(10_000) == "is_c3d_ucf101"
    assert inception_score_name(2048) == "is_c3d_ucf101_n2048_10splits"


def test_few_clips_are_refused_before_anything_is_drawn_unless_asked_for(recipe: Recipe) -> None:
    refused = without_permission(recipe)
    with pytest.raises(EvaluationError) as error:
        evaluate(refused, name="refused")
    said = str(error.value)
    assert "evaluate.networks.i3d: the set 'real' has 12 clips, FVD is published over 2,048" in said
    assert "evaluate.allow_few_clips=true, which names the number fvd_i3d_n12_16f" in said
    assert "IS is published over 10,000" in said
    assert "images" not in said
    assert not RunLayout(Path(recipe.run_directory)).evaluation("refused").exists()
    assert list(evaluation_faults(refused, tables=True)) == said.splitlines()
    assert not list(evaluation_faults(recipe, tables=True))


def test_a_tier_of_fewer_than_sixteen_frames_is_refused(
    evaluation_recipe: Recipe, networks: FeatureNetworkSettings
) -> None:
    short = changed(evaluation_recipe, networks=networks, allow_few_clips=True)
    with pytest.raises(EvaluationError, match=r"i3d: FVD takes 16 frames, videos of the tier 'low' have 8"):
        evaluate(short, name="short")


def test_networks_are_checked_before_anything_is_drawn(
    recipe: Recipe, networks: FeatureNetworkSettings, tmp_path: Path
) -> None:
    assert networks.i3d is not None
    other = networks.model_copy(
        update={
            "i3d": networks.i3d.model_copy(update={"sha256": "0" * 64}),
            "videomae": recipe.models.image_encoder,
        }
    )
    wrong = changed(recipe, networks=other)
    with pytest.raises(EvaluationError, match=networks.i3d.sha256):
        evaluate(wrong, name="wrong")
    faults = "\n".join(evaluation_faults(wrong, tables=True))
    assert networks.i3d.sha256 in faults
    assert "no VideoMAEForVideoClassification" in faults


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "A star"}, "no column 'image'"),
        ({"prompt": "", "image": "a.png"}, "row 1: the prompt is empty"),
        ({"prompt": "A star", "image": "b.png"}, r"row 1: no image .*b\.png"),
        ({"prompt": "A star", "image": "a.png", "sprites": "[1]"}, "row 1: the label 'sprites'"),
    ],
)
def test_a_table_of_images_that_cannot_be_used_is_refused_with_its_row(
    recipe: Recipe, tmp_path: Path, row: dict[str, str], said: str
) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    table = tmp_path / "images.csv"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)
    with pytest.raises(EvaluationError, match=said):
        image_clips(recipe, EvaluationSet(name="mine", images=str(table), clips=1))


def test_images_without_labels_or_motion_take_the_motion_of_their_prompt(
    recipe: Recipe, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "images.jsonl").write_text('{"prompt": "A red star slides to the left", "image": "a.png"}\n')
    table = EvaluationSet(name="mine", images=str(tmp_path / "images.jsonl"), clips=1)
    (clip,) = image_clips(recipe, table)
    assert (clip.appearance_caption, clip.motion_caption) == ("A red star", "star slides to the left")
    assert clip.asks_for_motion
    assert not clip.objects


def test_a_set_is_a_split_or_a_table_of_images() -> None:
    for kinds in ({}, {"split": "train", "images": "images.csv"}):
        with pytest.raises(ValueError, match="needs a split"):
            EvaluationSet(name="both", clips=1, **kinds)
