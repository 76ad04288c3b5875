"""UCF101 zero-shot on a small UCF101 in its own layout, with small networks in the files of the big ones."""

import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.ucf101 import ucf101_rows
from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.evaluation import ucf101
from pipelines.evaluation.claim import ClaimedError
from pipelines.evaluation.measure import packed
from pipelines.evaluation.published import UCF101, differences
from pipelines.evaluation.ucf101 import Ucf101Settings, evaluate_ucf101
from pipelines.evaluation.ucf101_data import (
    Ucf101Error,
    compared_size,
    in_proportion,
    read_random_clip,
    read_split,
    real_order,
)
from pipelines.evaluation.ucf101_metrics import Compared, metrics_of
from pipelines.evaluation.ucf101_prompts import PROMPTS
from pipelines.layout import RunLayout
from pipelines.media import read_mp4
from pipelines.recipe import Recipe, RecipeError
from tests.pipelines.evaluation import evaluation_world, tiny_networks, ucf101_world

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(UCF-101, ucfTrainTestlist)"""
    return ucf101_world.make(tmp_path_factory.mktemp("ucf101"))


# ---------------------------------------------------------------- prompts, splits, counts


def test_each_of_the_101_classes_has_a_sentence_of_its_own() -> None:
    assert len(PROMPTS) == len(set(PROMPTS.values())) == 101
    assert all(prompt.endswith(".") and len(prompt.split()) >= 4 for prompt in PROMPTS.values())


def test_splits_are_read_as_distributed(world: tuple[Path, Path]) -> None:
    train, test, both = (read_split(*world, split) for split in ("train", "test", "all"))
    assert {name: len(paths) for name, paths in train.items()} == {
        "ApplyEyeMakeup": 7,
        "HandstandPushups": 3,
        "YoYo": 3,
    }
    assert test["HandstandPushups"] == ["HandstandPushups/v_HandStandPushups_g01_c01.avi"]
    assert {path for paths in both.values() for path in paths} == {
        path for split in (train, test) for paths in split.values() for path in paths
    }


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("trainlist01.txt", None, r"no .*trainlist01\.txt: give the folder ucfTrainTestlist"),
        (
            "trainlist01.txt",
            "YoYo/v_YoYo_g09_c01.avi 3",
            r"lacks 1 of the 1 videos .* is YoYo/v_YoYo_g09_c01",
        ),
        ("trainlist01.txt", "Juggling/v_1.avi 3", "'Juggling/v_1.avi 3' names no video of a class"),
        ("trainlist01.txt", "YoYo/../../v_1.avi 3", "names no video of a class"),
        ("classInd.txt", "1 Juggling", "'Juggling' is no class of UCF101"),
    ],
)
def test_a_ucf101_that_is_not_whole_is_named(
    world: tuple[Path, Path], tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    videos, splits = world
    copy = shutil.copytree(splits, tmp_path / "splits")
    (copy / file).unlink() if text is None else (copy / file).write_text(text)
    with pytest.raises(Ucf101Error, match=message):
        read_split(videos, copy)


def test_of_any_first_clips_each_class_has_its_share() -> None:
    shares = {name: 70 + 7 * (number % 10) for number, name in enumerate(PROMPTS)}  # as UCF101's: 70 to 133
    total = sum(shares.values())
    for clips in (101, 2048, 10_000):
        drawn = list(islice(in_proportion(shares), clips))
        counts = Counter(name for name, _ in drawn)
        assert sum(counts.values()) == len(set(drawn)) == clips
        assert all(abs(counts[name] - clips * share / total) < 1 for name, share in shares.items())
    assert list(islice(in_proportion(shares), 2048)) == drawn[:2048]


def test_real_videos_are_taken_once_each_in_an_order_that_the_seed_fixes(world: tuple[Path, Path]) -> None:
    classes = read_split(*world)
    order = real_order(classes, seed=1)
    assert sorted(order) == sorted(path for paths in classes.values() for path in paths)
    assert Counter(path.split("/")[0] for path in order[:4]) == {
        "ApplyEyeMakeup": 2,
        "HandstandPushups": 1,
        "YoYo": 1,
    }
    assert real_order(classes, seed=1) == order != real_order(classes, seed=2)


def test_a_clip_starts_anywhere_and_is_sampled_by_time(world: tuple[Path, Path]) -> None:
    path = str(world[0] / "YoYo" / "v_YoYo_g02_c01.avi")
    first, last = (read_random_clip(path, 16, 8, 48, 48, chance) for chance in (0, 1))
    assert first.shape == (16, 48, 48, 3)
    # The ground is brighter by one a frame, 25 frames a second: 8 fps are every third frame or so.
    ground = [clip[:, -4:, :4].mean((1, 2, 3)) for clip in (first, last)]
    assert ground[0][0] == pytest.approx(162, abs=3)
    assert ground[1][-1] == pytest.approx(162 + 69, abs=3)
    assert np.diff(ground[0]).mean() == pytest.approx(25 / 8, abs=0.2)
    with DecoderProcess() as decoder, pytest.raises(DecoderError, match=r"too_short: 0\.80 s"):
        decoder.call(read_random_clip, path.replace("g02", "g03"), 16, 8, 48, 48, 0.5)


def test_nothing_is_enlarged_to_be_compared() -> None:
    assert compared_size(320, 512) == (240, 320)  # Stable Video Diffusion's, appendix E.4
    assert compared_size(64, 64) == (64, 64)
    assert compared_size(256, 256) == (240, 256)


# ---------------------------------------------------------------- metrics and published numbers

COMPARED = Compared(
    prompts="a sentence for each class",
    first_frame="drawn from text",
    fvd_clips=2048,
    is_clips=10_000,
    frames=16,
    fps=25,
    drawn_size="320x576",
    compared_size="240x320",
    real_videos="all",
    seed=0,
)


def test_what_a_paper_does_otherwise_is_marked_and_what_it_does_not_say_too() -> None:
    rows = {row.model: differences(row, COMPARED) for row in UCF101}
    assert rows["Stable Video Diffusion"] == {
        "differ": ["prompts class names", "FVD clips 13,320"],
        "unknown": [],
    }
    assert rows["Show-1"] == {"differ": [], "unknown": ["fps", "compared at", "real videos"]}
    assert "prompts" in rows["Emu Video"]["unknown"]
    given = Compared(**{**COMPARED.__dict__, "first_frame": "a real one is given"})
    assert all(differences(row, given)["differ"][0] == "first frame drawn from text" for row in UCF101)


def test_published_numbers_are_those_of_the_papers() -> None:
    numbers = {row.model: (row.fvd, row.inception_score) for row in UCF101}
    assert numbers["Make-A-Video"] == (367.23, 33.0)
    assert numbers["Stable Video Diffusion"] == (242.02, None)
    assert all("arXiv 2" in row.source for row in UCF101)


def rows_of(features: np.ndarray) -> list[dict[str, Any]]:
    return [{"features": {"i3d": packed(row), "c3d": packed(np.full(101, 1 / 101))}} for row in features]


def test_real_videos_are_at_distance_zero_and_others_are_not() -> None:
    from pipelines.evaluation.feature_networks import NetworkNote

    rng = np.random.default_rng(0)
    real = rng.standard_normal((40, 6))
    compared = Compared(**{**COMPARED.__dict__, "fvd_clips": 40})
    notes = {name: NetworkNote(64 * "0", "none") for name in ("i3d", "c3d")}
    same, flat = metrics_of(rows_of(real), rows_of(real), compared, notes)
    shifted, _ = metrics_of(rows_of(real + 2), rows_of(real), compared, notes)
    assert (same.name, flat.name) == ("ucf101_fvd_i3d_n40_16f", "ucf101_is_c3d_ucf101_n40_10splits")
    assert same.value == pytest.approx(0, abs=1e-6)
    assert shifted.value == pytest.approx(6 * 4, rel=1e-5)
    assert shifted.interval is not None
    assert shifted.interval[0] < shifted.value < shifted.interval[1]
    assert flat.value == pytest.approx(1)  # a classifier that knows nothing


# ---------------------------------------------------------------- the whole of it


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory, evaluation_recipe: Recipe, evaluation_models: dict[str, str]
) -> Recipe:
    folder = tmp_path_factory.mktemp("ucf101_run")
    networks = {
        "i3d": tiny_networks.save_i3d(folder / "i3d.pt", features=12).model_dump(),
        "c3d": tiny_networks.save_c3d(folder / "c3d.pt").model_dump(),
    }
    recipe = evaluation_world.recipe(
        folder / "run",
        Path(evaluation_recipe.data.table),
        evaluation_models,
        networks=networks,
        allow_few_clips=True,
    )
    layout = RunLayout(Path(recipe.run_directory))
    shutil.copytree(RunLayout(Path(evaluation_recipe.run_directory)).model("low"), layout.model("low"))
    layout.recipe.write_text(recipe.model_dump_json())
    return recipe


@pytest.fixture(scope="module")
def evaluated(ray: None, recipe: Recipe, world: tuple[Path, Path]) -> tuple[dict[str, Any], Path]:
    """(what `evaluate_ucf101` returned, its folder)"""
    summary = evaluate_ucf101(recipe, Ucf101Settings(*world, clips=10))
    return summary, RunLayout(Path(recipe.run_directory)).evaluation("ucf101")


def test_videos_of_every_class_are_drawn_in_proportion_and_compared(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    summary, folder = evaluated
    assert set(summary["metrics"]) == {
        f"{name}{end}"
        for name in ("ucf101_fvd_i3d_n10_16f", "ucf101_is_c3d_ucf101_n10_10splits")
        for end in ("", "_low", "_high")
    }
    drawn = sorted(path.parent.name for path in folder.glob("videos/*/*.mp4"))
    assert Counter(drawn) == {"ApplyEyeMakeup": 6, "HandstandPushups": 2, "YoYo": 2}
    frames, fps = read_mp4(folder / "videos" / "YoYo" / "00000.mp4")
    assert (frames.shape, fps) == ((16, 32, 32, 3), 8)
    others = read_mp4(folder / "videos" / "YoYo" / "00001.mp4")[0]
    assert not np.array_equal(frames, others)
    assert (folder / "grid.png").stat().st_size > 1000


def test_metrics_json_has_the_protocol_published_results_and_what_was_left_out(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    summary, folder = evaluated
    report = json.loads((folder / "metrics.json").read_text())
    assert report["summary"] == summary["metrics"]
    named = {metric["name"]: metric for metric in report["metrics"]}
    fvd = named["ucf101_fvd_i3d_n10_16f"]
    assert (fvd["samples"], fvd["frames"], fvd["fps"], fvd["seed"]) == (10, 16, 8, 3)
    assert "train list 1, one clip a video from a random start" in fvd["protocol"]
    assert "to cover 32x32" in fvd["resize"]
    assert len(fvd["feature_network_sha256"]) == 64
    # Two videos are shorter than a clip; what is left out is replaced, so ten real clips stand against ten.
    assert {entry["path"] for entry in report["left_out"]} <= {
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi",
        "YoYo/v_YoYo_g03_c01.avi",
    }
    assert report["left_out"]
    assert all(entry["reason"].startswith("too_short") for entry in report["left_out"])
    assert report["protocol"]["fvd_clips"] == report["protocol"]["is_clips"] == 10
    svd = next(row for row in report["published"] if row["model"] == "Stable Video Diffusion")
    assert "FVD clips 13,320" in svd["differences"]["differ"]


def test_the_table_puts_ours_beside_the_published_with_the_differences(
    evaluated: tuple[dict[str, Any], Path],
) -> None:
    rows = dict(ucf101_rows(evaluated[0]))
    assert "ucf101_fvd_i3d_n10_16f" in rows
    assert rows["Make-A-Video"].startswith("FVD 367.23, IS 33.00; differs: FVD clips 10,000, IS clips 10,000")
    assert "not known: fps" in rows["Make-A-Video"]
    assert "trained on 152 M private clips" in rows["Stable Video Diffusion"]


def test_mlflow_holds_the_numbers_with_their_protocol(evaluated: tuple[dict[str, Any], Path]) -> None:
    from mlflow import MlflowClient

    summary, _ = evaluated
    run = MlflowClient(tracking_uri=summary["tracking"]["uri"]).get_run(summary["tracking"]["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(summary["metrics"])
    assert "random start" in run.data.tags["protocol.ucf101_fvd_i3d_n10_16f"]
    assert run.inputs.dataset_inputs[0].dataset.name == "UCF101"


def test_what_was_drawn_before_a_stop_is_kept_and_counts(
    evaluated: tuple[dict[str, Any], Path],
    recipe: Recipe,
    world: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary, folder = evaluated
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("videos/*/*.mp4")}
    gone = folder / "videos" / "YoYo" / "00001.mp4"
    gone.unlink()
    (gone.parent / ".00001.mp4.partial").write_bytes(b"what a kill leaves")
    with monkeypatch.context() as patch:
        patch.setattr(ucf101, "_real", stopped)
        with pytest.raises(KeyboardInterrupt):
            evaluate_ucf101(recipe, Ucf101Settings(*world, clips=10))
    assert not (folder / "metrics.json").exists()  # no number stands for a run that is not whole
    again = evaluate_ucf101(recipe, Ucf101Settings(*world, clips=10))
    assert again["metrics"] == pytest.approx(summary["metrics"], rel=1e-3)  # drawn alone now: the last bit
    for path, (written, content) in before.items():
        assert (path.stat().st_mtime_ns == written) == (path != gone)
        assert path == gone or path.read_bytes() == content
    assert not list(folder.rglob(".*.partial"))


def stopped(*_: Any) -> None:
    raise KeyboardInterrupt


def test_another_seed_s_videos_are_not_taken_for_these(
    evaluated: tuple[dict[str, Any], Path], recipe: Recipe, world: tuple[Path, Path]
) -> None:
    with pytest.raises(ClaimedError, match="give another folder"):
        evaluate_ucf101(recipe.model_copy(update={"seed": 4}), Ucf101Settings(*world, clips=10))
    assert list(evaluated[1].glob("videos/*/*.mp4"))


def test_given_first_frames_are_real_ones_and_the_numbers_are_called_otherwise(
    evaluated: tuple[dict[str, Any], Path], recipe: Recipe, world: tuple[Path, Path]
) -> None:
    from PIL import Image

    settings = Ucf101Settings(*world, split="all", clips=10, given_image=True)
    summary = evaluate_ucf101(recipe, settings, name="i2v")
    assert "ucf101_i2v_fvd_i3d_n10_16f" in summary["metrics"]
    assert summary["protocol"]["first_frame"] == "a real one is given"
    folder = RunLayout(Path(recipe.run_directory)).evaluation("i2v")
    videos = sorted(folder.glob("videos/*/*.mp4"))
    assert len(videos) == 10
    for video in videos:
        # The ground of a class has its brightness, which rises by one a frame.
        given = np.asarray(Image.open(folder / "first_frames" / video.parent.name / f"{video.stem}.png"))
        assert given.shape == (32, 32, 3)
        source = world[0] / video.parent.name / f"{video.stem}.avi"
        assert source.is_file()
        brightness = next(row[2] for row in ucf101_world.CLASSES if row[0] == video.parent.name)
        assert brightness - 2 < given[-3:, :3].mean() < brightness + ucf101_world.LONG + 12
    with pytest.raises(RecipeError, match="10,000 clips from given first frames need as many real videos"):
        evaluate_ucf101(recipe, Ucf101Settings(*world, given_image=True), name="i2v")


def test_numbers_that_compare_with_nothing_are_refused_before_anything_is_drawn(
    recipe: Recipe, world: tuple[Path, Path]
) -> None:
    evaluate = recipe.evaluate
    assert evaluate is not None

    def changed(**update: Any) -> Recipe:
        return recipe.model_copy(update={"evaluate": evaluate.model_copy(update=update)})

    with pytest.raises(RecipeError, match=r"FVD is published over 2,048.*\n.*IS is published over 10,000"):
        evaluate_ucf101(changed(allow_few_clips=False), Ucf101Settings(*world, clips=10), name="few")
    nothing = evaluate.networks.model_copy(update={"i3d": None, "c3d": None})
    with pytest.raises(RecipeError, match="names no network"):
        evaluate_ucf101(changed(networks=nothing), Ucf101Settings(*world), name="few")
    with pytest.raises(RecipeError, match=r"evaluate: .* would wait for ever"):
        evaluate_ucf101(changed(cpus_per_worker=10_000), Ucf101Settings(*world, clips=10), name="few")
    assert not RunLayout(Path(recipe.run_directory)).evaluation("few").exists()


def test_too_few_real_videos_are_refused_before_anything_is_drawn(
    recipe: Recipe, world: tuple[Path, Path]
) -> None:
    evaluate = recipe.evaluate
    assert evaluate is not None
    strict = evaluate.model_copy(
        update={"allow_few_clips": False, "networks": evaluate.networks.model_copy(update={"c3d": None})}
    )
    with pytest.raises(Ucf101Error, match="there are 13 real videos to use, FVD is published over 2,048"):
        evaluate_ucf101(recipe.model_copy(update={"evaluate": strict}), Ucf101Settings(*world), name="strict")
    assert not RunLayout(Path(recipe.run_directory)).evaluation("strict").exists()
