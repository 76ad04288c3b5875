"""Preflight: everything that would stop a run is said before it starts, at once, with its mend."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipelines.curation.sources import divide_sources
from pipelines.layout import RunLayout
from pipelines.model_shapes import clip_bytes
from pipelines.preflight import STEPS, PreflightError, find_faults, preflight
from pipelines.preflight.place import run_bytes
from pipelines.recipe import Bucket, Recipe, RecipeError
from pipelines.recipe_file import load_recipe

CONFIGS = {
    "stable_diffusion/vae": {"block_out_channels": [8, 8, 8], "latent_channels": 4},
    "stable_diffusion/unet": {
        "block_out_channels": [16, 32],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
        "in_channels": 4,
        "out_channels": 4,
        "cross_attention_dim": 16,
    },
    "stable_diffusion/text_encoder": {"hidden_size": 16},
    "clip": {
        "model_type": "clip",
        "projection_dim": 8,
        "vision_config": {"hidden_size": 32, "projection_dim": 8},
        "text_config": {"hidden_size": 16},
    },
    "motion_encoder": {"model_type": "t5", "d_model": 16},
}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Model folders with configurations, vocabularies and (tiny) weights."""
    folder = tmp_path / "models"
    for name, config in CONFIGS.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        save_file({"weight": torch.zeros(4)}, folder / name / "model.safetensors")
    (folder / "stable_diffusion/scheduler").mkdir()
    (folder / "stable_diffusion/scheduler/scheduler_config.json").write_text(
        json.dumps({"prediction_type": "v_prediction"})
    )
    for name in ("stable_diffusion/tokenizer", "clip", "motion_encoder"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "videos.csv"
    splits = ["train"] * 4 + ["validation", "held_out", "held_out_two", "held_out_pan"]
    rows = [f'{i},videos/{i}.mp4,"a red star, moving",{split},[],still' for i, split in enumerate(splits)]
    Image.new("RGB", (8, 8)).save(tmp_path / "given.png")
    (tmp_path / "images.csv").write_text("prompt,image,motion\na red star,given.png,star moves left\n")
    file.write_text("\n".join(["videoid,contentUrl,name,split,sprites,camera", *rows]) + "\n")
    return file


@pytest.fixture
def recipe(models: Path, table: Path, tmp_path: Path):
    def make(*overrides: str) -> Recipe:
        return load_recipe(
            "demo",
            (
                f"models.text_to_image={models / 'stable_diffusion'}",
                f"models.image_encoder={models / 'clip'}",
                f"models.motion_encoder={models / 'motion_encoder'}",
                "models.video_classifier=null",
                f"data.table={table}",
                f"run_directory={tmp_path / 'run'}",
                *overrides,
            ),
        )

    return make


def faults(recipe: Recipe, *steps: str) -> list[str]:
    return list(find_faults(recipe, steps)) if steps else list(find_faults(recipe))


def only_fault(recipe: Recipe, *steps: str) -> str:
    found = faults(recipe, *steps)
    assert len(found) == 1, found
    return found[0]


def test_a_recipe_that_can_run_passes(recipe):
    assert faults(recipe()) == []
    preflight(recipe())


def test_all_faults_are_said_at_once(recipe, tmp_path: Path):
    wrong = recipe(
        "models.motion_encoder=nowhere",
        f"data.table={tmp_path / 'nothing.csv'}",
        "curation.tiers.low=[8x30x32]",
        "train.cpus_per_worker=1000",
        "tracking.uri=runs/tracking",
    )
    with pytest.raises(PreflightError) as caught:
        preflight(wrong)
    assert isinstance(caught.value, RecipeError)
    assert len(caught.value.faults) == 5
    for place in ("models.motion_encoder", "data.table", "curation.tiers.low", "train:", "tracking.uri"):
        assert place in str(caught.value)


def test_a_missing_model_says_how_to_get_it(recipe):
    assert "hf download" in only_fault(recipe("models.image_encoder=nowhere"))
    assert "dreamer embedded models" in only_fault(recipe("models.image_encoder=embedded://nothing"))


def test_pickled_weights_are_refused_with_the_way_to_convert_them(recipe, models: Path):
    vae = models / "stable_diffusion" / "vae"
    (vae / "model.safetensors").rename(vae / "diffusion_pytorch_model.bin")
    fault = only_fault(recipe())
    assert "only diffusion_pytorch_model.bin" in fault
    assert "safe_serialization=True" in fault


def test_a_tokenizer_that_is_missing_is_said(recipe, models: Path):
    shutil.rmtree(models / "stable_diffusion" / "tokenizer")
    assert "no tokenizer" in only_fault(recipe())


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("stable_diffusion/text_encoder", {"hidden_size": 24}, "cross-attention wants 16"),
        ("stable_diffusion/unet", {"in_channels": 9}, "no inpainting"),
        ("clip", {"vision_config": None}, "no CLIP model with a vision tower"),
        ("clip", {"projection_dim": 16}, "set vision_config.projection_dim"),
        ("motion_encoder", {"model_type": "bert"}, "read by a T5 encoder"),
    ],
)
def test_parts_that_do_not_fit_together_are_said(recipe, models: Path, part, change, message):
    (models / part / "config.json").write_text(json.dumps({**CONFIGS[part], **change}))
    assert message in only_fault(recipe())


def test_a_bucket_that_the_networks_cannot_divide_names_the_nearest(recipe):
    # The VAE shrinks by 4, the UNet halves once: multiples of 8.
    assert "height 30 of 8x30x32 is no multiple of 8" in only_fault(recipe("curation.tiers.low=[8x30x32]"))
    assert "one frame" in only_fault(recipe("curation.tiers.low=[1x32x32]"))


def test_a_table_that_is_spelled_wrongly_names_the_one_beside_it(recipe, table: Path):
    fault = only_fault(recipe(f"data.table={table.with_name('video.csv')}"))
    assert f"did you mean data.table={table}" in fault


def test_missing_columns_are_named(recipe):
    fault = only_fault(recipe("data.columns.caption=title"))
    assert "data.columns.caption" in fault
    assert "'title'" in fault


def test_a_table_without_rows_is_refused(recipe, table: Path):
    table.write_text(table.read_text().splitlines()[0] + "\n")
    assert "has a header but no row" in only_fault(recipe())


def test_a_split_that_no_row_has_is_said_with_those_that_are_there(recipe):
    fault = only_fault(recipe("evaluate.sets.0.split=test"))
    assert "evaluate.sets.0.split" in fault
    assert "train (4)" in fault


def test_without_a_split_column_everything_is_training_data(recipe):
    found = faults(recipe("data.columns.split=null"))
    assert len(found) == 3  # the three held-out sets
    assert all("data.columns.split names no column" in fault for fault in found)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stages.0.trainable=[tempral_modules.*]", "did you mean 'temporal_modules.*'"),
        ("train.stages.0.trainable=[flow_predictor.*]", "the stage's loss does not reach"),
        ("model.temporal_head_dim=12", "16 channels cannot be divided into heads of 12"),
        ("model.pixel_attention_window=3", "must be an even number"),
        ("model.temporal_spatial_kernel=2", "must be odd"),
        ("train.stages.0.schedule.terminal_snr=9999", "does not decrease"),
    ],
)
def test_a_network_that_cannot_be_built_or_trained_is_refused(recipe, override, said):
    assert said in only_fault(recipe(override), "train")
    assert faults(recipe(override), "curate") == []


def test_a_stage_that_predicts_otherwise_than_its_weights_must_say_so(recipe, models: Path):
    file = models / "stable_diffusion/scheduler/scheduler_config.json"
    file.write_text(json.dumps({"prediction_type": "epsilon"}))
    found = faults(recipe(), "train")
    assert len(found) == len(recipe().train.stages)
    assert "predict epsilon, this stage v; write prediction: v if that is meant" in found[0]
    said = [f"train.stages.{number}.schedule.prediction=v" for number in range(len(found))]
    assert faults(recipe(*said), "train") == []
    file.unlink()
    assert "no scheduler/scheduler_config.json" in only_fault(recipe(*said), "train")


def test_an_image_encoder_without_words_trains_but_cannot_evaluate(recipe, models: Path):
    config = models / "clip" / "config.json"
    config.write_text(json.dumps({"model_type": "clip_vision_model", "image_size": 32, "hidden_size": 32}))
    assert faults(recipe(), "train") == []
    assert "no text tower" in only_fault(recipe(), "train", "evaluate")


def test_a_root_that_is_an_address_of_the_web_is_refused(recipe):
    with pytest.raises(RecipeError, match=r"data\.root: .*https://b/videos is no place"):
        recipe("data.root=https://b/videos")


def test_an_address_that_would_be_taken_for_a_pattern_is_refused(recipe):
    with pytest.raises(RecipeError, match=r"run_directory: .*s3://b/run\[1\]: .*taken for patterns"):
        recipe("run_directory=s3://b/run[1]")


def test_a_table_with_a_broken_line_is_refused_with_its_number(recipe, tmp_path: Path):
    table = tmp_path / "videos.jsonl"
    good = {"videoid": "1", "contentUrl": "1.mp4", "name": "", "split": "train", "sprites": "", "camera": ""}
    table.write_text("\n" + json.dumps(good) + "\n{broken\n")
    assert "line 3 is no JSON" in only_fault(recipe(f"data.table={table}"), "curate")
    table.write_text("[1]\n")
    assert "line 1 is no JSON object" in only_fault(recipe(f"data.table={table}"), "curate")


def test_a_first_look_into_a_run_that_holds_more_is_refused(recipe):
    whole = recipe()
    divide_sources(whole.data, RunLayout(Path(whole.run_directory)), 2)
    assert faults(whole) == []
    assert "data.limit=3 would drop 5 sources" in only_fault(
        recipe("data.limit=3", "evaluate=null", "train=null"), "curate"
    )


def test_a_folder_without_videos_is_refused(recipe, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "no video" in only_fault(recipe(f"data.table={tmp_path / 'empty'}"), "curate")


def test_only_what_the_steps_need_is_looked_at(recipe, tmp_path: Path):
    trained = recipe(f"data.table={tmp_path / 'gone.csv'}")
    assert faults(trained, "train") == []


def test_a_run_directory_that_is_a_file_is_refused(recipe, table: Path):
    assert "is a file" in only_fault(recipe(f"run_directory={table}/run"))


def test_a_disk_that_is_too_small_is_refused(recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage("/")._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    fault = only_fault(recipe())
    assert "0.0 GB free" in fault
    # What a run has written already is not needed a second time.
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("")
    with (run / "shard").open("wb") as file:
        file.truncate(run_bytes(recipe(), STEPS))  # takes no room
    assert faults(recipe()) == []
    assert "data.limit=N" in fault


def test_disk_grows_with_clips_and_their_size(recipe):
    small, large = Bucket(frames=8, height=32, width=32), Bucket(frames=8, height=64, width=64)
    settings = recipe()
    # 8x8 latents, 4 channels, mean and deviation as float16; flow and its mask; 16 image tokens of width 32;
    # ids of both captions.
    assert clip_bytes(settings, small) == 2 * 4 * 8 * 64 * 2 + 7 * 64 * 5 + 16 * 32 * 2 + (77 + 64) * 4
    assert clip_bytes(settings, large) > 3 * clip_bytes(settings, small)
    assert run_bytes(recipe("data.limit=2"), STEPS) < run_bytes(settings, STEPS)


def test_workers_that_no_node_has_room_for_are_refused_before_anything_starts(recipe):
    crowded = recipe("train.workers=8", "train.cpus_per_worker=100", "train.global_batch_clips=16")
    assert "8 workers with 100 CPU each would wait for ever" in only_fault(crowded)


def test_on_a_cluster_its_own_nodes_count(recipe, ray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import ray as running

    monkeypatch.setenv("RAY_ADDRESS", running.get_runtime_context().gcs_address)
    two_gpus = recipe("train.gpus_per_worker=2")
    assert "DREAMER_CLUSTER" in only_fault(two_gpus)
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "head_node_type: head\navailable_node_types:\n  head: {resources: {CPU: 2}}\n"
        "  gpu: {resources: {CPU: 8, GPU: 2}, max_workers: 2}\n"
    )
    monkeypatch.setenv("DREAMER_CLUSTER", str(file))
    assert faults(two_gpus) == []


def test_gpus_that_are_not_there_are_said(recipe):
    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    assert "train.gpus_per_worker=0" in only_fault(recipe("train.gpus_per_worker=1"))


@pytest.mark.parametrize("uri", ["sqlite:///x.db", "http://127.0.0.1:5000", "postgresql+psycopg2://h/db"])
def test_stores_that_mlflow_takes_pass(recipe, uri):
    assert faults(recipe(f"tracking.uri={uri}")) == []


def test_what_an_evaluation_lacks_is_said(recipe, tmp_path: Path):
    fault = only_fault(recipe("evaluate.sets.3.images=none.csv"))
    assert "evaluate.sets.images.images: no table" in fault
    assert str(tmp_path / "none.csv") in fault
    pinned = f"{{file: {tmp_path / 'i3d.pt'}, sha256: {'a' * 64}}}"
    (tmp_path / "i3d.pt").write_text("weights")
    faults = "\n".join(
        find_faults(recipe(f"evaluate.networks.i3d={pinned}", f"evaluate.watermark={tmp_path}/no.png"))
    )
    assert "256 clips, FVD is published over 2,048" in faults
    assert "FVD takes 16 frames" in faults
    assert "the recipe pins aaaa" in faults
    assert "evaluate.watermark: no file" in faults
