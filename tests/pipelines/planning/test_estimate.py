"""A plan's numbers are a training's: memory as measured, operations as arithmetic says, bytes as written."""

import json
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from modeling.objective import diffusion_loss
from modeling.schedule import NoiseSchedule
from modeling.unet import FactorizedUNet
from pipelines.benchmark.model import Batch, Shape, make_ours
from pipelines.benchmark.operations import peak_bytes
from pipelines.hardware import HardwareError, find_gpu
from pipelines.layout import RunLayout
from pipelines.planning.cost import count_clips, curation_cost
from pipelines.planning.estimate import Assumptions, Counter, plan_recipe, shares
from pipelines.planning.step_memory import (
    MOMENTS_BYTES,
    Elements,
    Held,
    PassPeaks,
    Savings,
    pass_peaks,
    step_memory,
)
from pipelines.preflight import PreflightError
from pipelines.recipe import RecipeError
from pipelines.training.flops import clip_flop
from tests.pipelines.planning.closed_form import step_operations
from tests.pipelines.training import training_world

SCHEDULE = NoiseSchedule()
FLOW_WEIGHT = 0.1
# Weights prevail, activations do, and pixels so many that a matrix of all their pairs would.
SIZES = [
    Shape(clips=2, frames=2, latent_side=8, widths=(32, 64)),
    Shape(clips=1, frames=8, latent_side=16, widths=(64, 128)),
    Shape(clips=1, frames=2, latent_side=32, widths=(32, 64)),
]


def config_of(model: FactorizedUNet) -> dict[str, Any]:
    return {key: value for key, value in model.config.items() if not key.startswith("_")}


def objective_batch(shape: Shape) -> dict[str, torch.Tensor]:
    made, pixels = Batch(shape), (shape.frames - 1, shape.latent_side, shape.latent_side)
    names = ("latents", "text_tokens", "motion_tokens", "motion_mask", "image_tokens", "image_latents")
    return {
        **{name: getattr(made, name) for name in (*names, "image_mask", "fps")},
        "motion_score": made.fps,
        "flow": torch.zeros(shape.clips, 2, *pixels),
        "flow_valid": torch.ones(shape.clips, *pixels),
    }


def shapes_of(batch: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """What the estimate is told: masks and flow follow from it."""
    left_out = ("motion_mask", "image_mask", "flow", "flow_valid")
    return {name: tuple(tensor.shape) for name, tensor in batch.items() if name not in left_out}


def measured_peak(model: FactorizedUNet, batch: dict[str, torch.Tensor]) -> int:
    """Of two training steps, above weights and batch: the second has AdamW's moments from its start."""
    optimizer = torch.optim.AdamW(model.parameters())
    noise, timesteps = (
        torch.zeros_like(batch["latents"]),
        torch.zeros(len(batch["latents"]), dtype=torch.long),
    )

    def steps() -> None:
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            diffusion_loss(model, SCHEDULE, batch, noise, timesteps, flow_weight=FLOW_WEIGHT).total.backward()
            optimizer.step()

    return peak_bytes(steps)


@cache
def peaks_of(
    shape: Shape, dtype: torch.dtype = torch.float32, checkpointing: bool = False
) -> tuple[PassPeaks, int]:
    """Of all weights trained, and their number."""
    with torch.device("meta"):
        model, batch = make_ours(shape), objective_batch(shape)
    peaks = pass_peaks(
        config_of(model),
        [name for name, _ in model.named_parameters()],
        shapes_of(batch),
        flow_weight=FLOW_WEIGHT,
        schedule=SCHEDULE,
        dtype=dtype,
        checkpointing=checkpointing,
    )
    return peaks, sum(parameter.numel() for parameter in model.parameters())


def estimated_peak(shape: Shape, checkpointing: bool = False) -> int:
    """Beside the pass's peak AdamW's moments; without DeepSpeed there is no bucket."""
    peaks, number = peaks_of(shape, checkpointing=checkpointing)
    return sum(peaks.together) + MOMENTS_BYTES * number


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_memory_of_a_step_is_what_the_profiler_measures(shape):
    model, batch = make_ours(shape).train(), objective_batch(shape)
    measured = measured_peak(model, batch)
    assert estimated_peak(shape) == pytest.approx(measured, rel=0.05)


def test_checkpointed_activations_are_estimated_as_measured():
    shape = Shape(clips=1, frames=4, latent_side=16, widths=(32, 64))
    model, batch = make_ours(shape).train(), objective_batch(shape)
    model.enable_gradient_checkpointing()
    measured = measured_peak(model, batch)
    assert estimated_peak(shape, checkpointing=True) == pytest.approx(measured, rel=0.05)


def test_activations_in_bf16_take_half_the_bytes():
    full, half = (peaks_of(SIZES[0], dtype)[0].activations for dtype in (torch.float32, torch.bfloat16))
    assert half == pytest.approx(full / 2, rel=0.05)


@pytest.mark.parametrize("frozen", [(), ("image",)], ids=["all trained", "image frozen"])
def test_operations_of_a_step_are_what_arithmetic_says(frozen):
    shape = Shape(clips=1, frames=4, latent_side=8, widths=(32, 64))
    with torch.device("meta"):
        model, batch = make_ours(shape), objective_batch(shape)
    trained = {name for name, _ in model.named_parameters() if name.split(".")[0] not in frozen}
    counted = clip_flop(config_of(model), trained, shapes_of(batch), predict_flow=True)
    parts = {name.split(".")[0] for name in trained}
    assert counted == pytest.approx(step_operations(shape, parts), rel=0.001)


# ---------------------------------------------------------------- ZeRO

# At the dearest moment 1000 bytes of activations lie beside 40 of gradients.
PEAKS = PassPeaks(Held(1000, 40), 1020)


@pytest.mark.parametrize(
    ("level", "weights", "gradients", "optimizer", "ema", "activations"),
    [
        (0, 200, 40, 60 * 8, 60 * 4, 1000),
        (1, 200, 40 + 120, 15 * 12, 15 * 4, 1000),  # gradients pass through a bucket of all
        (2, 200, 120 + 30, 15 * 12, 15 * 4, 1020),  # and a quarter of them stays
        (3, 50 + 200, 120 + 30, 15 * 12, 15 * 4, 1020),  # a quarter of the weights, and all of them gathered
    ],
)
def test_zero_divides_what_it_says_it_divides(level, weights, gradients, optimizer, ema, activations):
    """100 weights in bf16, of which 60 are trained, on four GPUs."""
    held = step_memory(level, Elements(100, 60, 2), PEAKS, gpus=4, encoder_bytes=7)
    assert (held.weights, held.gradients, held.optimizer, held.ema) == (weights, gradients, optimizer, ema)
    assert (held.activations, held.encoders) == (activations, 7)
    assert held.peak == weights + gradients + optimizer + ema + activations + 7


def test_fp32_weights_are_cloned_by_zero_1_and_2_only():
    moments = {
        level: step_memory(level, Elements(100, 60, 4), PEAKS, gpus=1, encoder_bytes=0).optimizer // 60
        for level in (0, 1, 2, 3)
    }
    assert moments == {0: 8, 1: 12, 2: 12, 3: 8}


def test_the_update_is_the_peak_where_activations_are_few():
    few = PassPeaks(Held(10, 0), 10)
    gradients = {
        level: step_memory(level, Elements(100, 60, 4), few, gpus=2, encoder_bytes=0).gradients
        for level in (0, 1)
    }
    # All gradients with ZeRO 0's bucket of as many, or with ZeRO 1's copy of a half.
    assert gradients == {0: 60 * 4 * 2, 1: 60 * 4 + 30 * 4}


def test_all_gradients_lie_beside_the_activations_of_a_second_micro_batch():
    held = step_memory(0, Elements(100, 60, 2), PEAKS, 4, 0, micro_batches=2)
    assert (held.activations, held.gradients) == (1020, 60 * 2)


def test_offloading_moves_bytes_to_the_host():
    stays = step_memory(3, Elements(100, 60, 2), PEAKS, 4, 0)
    gone = step_memory(3, Elements(100, 60, 2), PEAKS, 4, 0, Savings(False, True, True))
    assert (gone.optimizer, gone.ema, gone.weights) == (0, 0, 200)
    assert gone.host == stays.optimizer + stays.ema + 50
    assert gone.peak + gone.host == stays.peak


# ---------------------------------------------------------------- the plan of a recipe


@pytest.fixture
def recipe(run_directory: Path, training_models: dict[str, str]):
    return partial(training_world.recipe, run_directory, training_models)


def stage(name: str, tier: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "tier": tier, "steps": 10, "learning_rate": 1e-3, **settings}


@pytest.fixture
def bare_models(training_models: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Model folders of configurations only."""
    for name, folder in training_models.items():
        for file in Path(folder).rglob("*.json"):
            target = tmp_path / name / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return {name: str(tmp_path / name) for name in training_models}


def test_a_plan_adds_up_without_weights_and_without_memory(bare_models, run_directory):
    only = ["temporal_modules.*"]
    stages = [stage("short", "low", trainable=only), stage("long", "low", trainable=only, steps=30)]
    settings = training_world.recipe(run_directory, bare_models, stages=stages)
    tiny = replace(find_gpu("l4"), memory_gb=1e-4)
    assumptions = Assumptions(tiny, gpus=2, mfu=0.5, price_per_gpu_hour=3, clips=100)
    plans: list[dict[str, Any]] = []
    peak = peak_bytes(lambda: plans.append(plan_recipe(settings, assumptions)))
    (plan,) = plans
    number = plan["parameters"]["video_unet"]
    assert peak < 0.1 * 4 * number  # of what the weights would take
    short, long = plan["stages"]
    assert 0 < short["trained_parameters"] == number - short["frozen_parameters"] < number
    (bucket,) = short["buckets"]
    assert bucket["step_flop"] == 4 * bucket["clip_flop"]
    assert short["flop"] == pytest.approx(10 * bucket["step_flop"])
    assert short["gpu_hours"] == pytest.approx(short["flop"] / (30.3e12 * 0.5) / 3600)
    assert bucket["seconds_per_step"] * 10 == pytest.approx(short["hours"] * 3600)
    assert long["gpu_hours"] == pytest.approx(3 * short["gpu_hours"])
    assert plan["training"]["gpu_hours"] == pytest.approx(4 * short["gpu_hours"])
    assert plan["training"]["money"] == pytest.approx(3 * plan["training"]["gpu_hours"])
    parts = ("weights", "gradients", "optimizer", "ema", "activations", "encoders")
    assert [level["zero_stage"] for level in bucket["memory"]] == [0, 1, 2, 3]
    for level in bucket["memory"]:
        assert level["peak"] == sum(level[part] for part in parts)
        assert not level["fits"]
    # A tier's two buckets share 100 clips, and every clip is in both tiers.
    planned = {name: row["clips"] for name, row in plan["data"]["buckets"].items()}
    assert planned == {"4x32x32": 100, "4x64x64": 50, "4x32x64": 50}
    assert plan["data"]["core_hours"] == pytest.approx(100 * 1.05 / 3600)
    json.dumps(plan, allow_nan=False)


def test_checkpointing_takes_a_third_more_hours(recipe):
    settings = [recipe(activation_checkpointing=on) for on in (False, True)]
    assumptions = Assumptions(find_gpu("l4"), 1)
    plain, again = (Counter(s, s.train, None, assumptions, {}).gpu_hours(1e18) for s in settings)
    assert again == pytest.approx(plain * 4 / 3)


def test_curated_clips_are_counted_and_their_mixture_is_kept(recipe):
    settings = recipe(stages=[stage("high", "high")])
    training_world.write_data(settings, {"4x64x64": 24, "4x32x64": 8})
    there = count_clips(settings, None)
    # Four clips of each bucket are for validation: they are in shards, but not trained on.
    assert there.clips == there.sources == 24 + 8 + 2 * 4
    assert there.by_bucket == {"4x64x64": 28, "4x32x64": 12}
    assert shares(settings, settings.train.stages[0], there) == {"4x64x64": 0.75, "4x32x64": 0.25}
    more = count_clips(settings, 400)
    assert (more.clips, more.sources) == (400, 400)
    assert more.by_bucket == {"4x64x64": 280, "4x32x64": 120}


def test_bytes_of_clips_are_those_of_shards(recipe, run_directory):
    settings = recipe()
    training_world.write_data(settings, {"4x32x32": 60}, validation=0)
    planned = curation_cost(settings, count_clips(settings, None), 1.3)["bytes"]
    shards = RunLayout(run_directory).shards("4x32x32").glob("*.parquet")
    # The test's writer cuts motion captions at 6 ids and not at 64; ids of clips and footers are extra.
    assert planned == pytest.approx(sum(file.stat().st_size for file in shards) + 60 * 58 * 4, rel=0.1)


def test_without_clips_only_data_is_not_known(recipe):
    settings = recipe()
    data = curation_cost(settings, count_clips(settings, None), 1.3)
    assert data["clips"] is data["bytes"] is data["precompute_flop"] is data["core_hours"] is None
    assert data["buckets"]["4x32x32"]["clip_bytes"] > 0


def test_latents_are_computed_in_fp32_where_there_is_no_tf32(recipe):
    settings = recipe()
    old, new = (
        plan_recipe(settings, Assumptions(find_gpu(gpu), 1, clips=1000))["data"] for gpu in ("v100", "l4")
    )
    assert (old["precompute_precision"], new["precompute_precision"]) == ("fp32", "tf32")
    assert old["precompute_gpu_hours"] / new["precompute_gpu_hours"] == pytest.approx(60 / 15.7)


def test_configurations_that_are_missing_are_all_said(bare_models, run_directory):
    (Path(bare_models["motion_encoder"]) / "config.json").unlink()
    shutil.rmtree(bare_models["text_to_image"])
    planned = training_world.recipe(run_directory, bare_models)
    with pytest.raises(PreflightError) as refused:
        plan_recipe(planned, Assumptions(find_gpu("l4"), 1))
    folder, file = refused.value.faults
    assert folder.startswith("models.text_to_image: no model folder")
    assert file.startswith("models.motion_encoder: ")
    assert "has no config.json" in file


def test_gpus_that_cannot_share_a_batch_or_compute_it_are_refused(recipe):
    with pytest.raises(RecipeError, match=r"--gpus 3: .*one of 1, 2, 4"):
        plan_recipe(recipe(), Assumptions(find_gpu("l4"), 3))
    with pytest.raises(RecipeError, match=r"--gpus 2: .*micro_batch_clips=4"):
        plan_recipe(recipe(micro_batch_clips=4), Assumptions(find_gpu("l4"), 2))
    with pytest.raises(HardwareError, match="v100 has units for fp32 only"):
        plan_recipe(recipe(precision="bf16"), Assumptions(find_gpu("v100"), 1))
