"""Stages in one process: against a plain loop, resumed, guarded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from modeling.objective import diffusion_loss
from modeling.unet import FactorizedUNet
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.training import loop
from pipelines.training.batch import Encoders, prepare
from pipelines.training.checkpoint import CheckpointError, CheckpointReader, whole_checkpoints
from pipelines.training.ema import decay
from pipelines.training.engine import LINEAR, learning_rate
from pipelines.training.forecast import show_plans, warn_of_torn_checkpoints
from pipelines.training.group import TrainingStoppedError
from pipelines.training.index import ShardError, read_index
from pipelines.training.log import read_log
from pipelines.training.parts import PartsError, select_trainable
from pipelines.training.plan import StagePlan, plan_stages
from pipelines.training.stage import StageRun, noise_schedule
from pipelines.training.start import check_start, untrained_unet
from pipelines.training.stream import RowReader, SampleStream
from pipelines.workflow import write_recipe
from tests.pipelines.training import training_world as world
from tests.pipelines.training.training_world import changed, ema, losses

pytestmark = pytest.mark.long

STEPS = 6
CLIPS = {"4x32x32": 10}
# Image UNet frozen, as in a first stage; flow loss on, so that every kind of loss is compared.
STAGE = {
    "name": "low",
    "tier": "low",
    "steps": STEPS,
    "learning_rate": 1e-2,
    "warmup_steps": 3,
    "decay_steps": 2,
    "trainable": ["temporal_modules.*", "flow_predictor.*", "image_conv_in.*"],
    "predict_flow": True,
    "flow_weight": 0.1,
}


@pytest.fixture
def recipe(run_directory: Path, training_models: dict[str, str]) -> Recipe:
    made = world.recipe(run_directory, training_models, stages=[STAGE])
    world.write_data(made, CLIPS)
    return made


def test_the_learning_rate_warms_up_and_falls_at_the_end(recipe: Recipe) -> None:
    (plan,) = plan_stages(recipe)
    rates = [learning_rate(plan.stage, step, plan.steps) for step in range(1, STEPS + 1)]
    assert rates == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2, 1e-2, 0.5e-2])


def plain_loop(recipe: Recipe, plan: StagePlan) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The same training, written out in PyTorch alone: losses and EMA."""
    settings, index = plan.settings, read_index(recipe, plan.stage)
    unet = untrained_unet(recipe).train()
    trained = set(select_trainable(unet, plan.stage.trainable))
    parameters = {name: p for name, p in unet.named_parameters() if name in trained}
    average = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = torch.optim.AdamW(parameters.values(), weight_decay=settings.weight_decay)
    stream = SampleStream(index.clips("train"), seed=plan.seed, batch_samples=settings.global_batch_clips)
    encoders, reader = Encoders.load(recipe, torch.device("cpu")), RowReader(index.load, index.decode)
    schedule, found = noise_schedule(plan.stage), []
    for step in range(1, plan.steps + 1):
        samples = stream.batch(step - 1)
        ready = prepare(
            samples,
            reader.rows(samples),
            seed=plan.seed,
            drop_probability=settings.drop_probability,
            motion_score_drop_probability=settings.motion_score_drop_probability,
            image_noise=settings.image_noise,
            num_train_timesteps=1000,
        )
        batch, draws = encoders.model_batch(ready, fps=8.0, motion_scores=False, dtype=torch.float32)
        loss = diffusion_loss(
            unet,
            schedule,
            batch,
            draws.noise,
            draws.timesteps,
            flow_weight=0.1,
            flow_min_snr=plan.stage.flow_min_snr,
        ).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(plan.stage, step, plan.steps)
        optimizer.step()
        kept = decay(
            step * settings.global_batch_clips, settings.global_batch_clips, settings.ema_half_life_samples
        )
        for name, p in parameters.items():
            average[name] = kept * average[name] + (1 - kept) * p.detach()
        found.append(loss.item())
    return found, average


def test_flow_is_asked_for_in_samples_as_noisy_as_the_stage_says(recipe: Recipe) -> None:
    every = changed(recipe, stages=(recipe.train.stages[0].model_copy(update={"flow_min_snr": 0.0}),))
    expected, _ = plain_loop(every, plan_stages(every)[0])
    assert expected[0] != plain_loop(recipe, plan_stages(recipe)[0])[0][0]
    torch.testing.assert_close(losses(world.train_here(every)), expected, atol=1e-5, rtol=1e-5)


WAYS = {
    **{f"ZeRO {stage}": {"zero_stage": stage} for stage in range(4)},
    "ZeRO 0, two micro-batches": {"zero_stage": 0, "micro_batch_clips": 2},
    "ZeRO 2, four micro-batches": {"zero_stage": 2, "micro_batch_clips": 1},
    "ZeRO 2, optimizer offloaded": {"zero_stage": 2, "offload_optimizer": True},
    "ZeRO 3, all offloaded, checkpointed": {
        "zero_stage": 3,
        "offload_optimizer": True,
        "offload_parameters": True,
        "activation_checkpointing": True,
    },
}

# A norm follows: their gradients are rounding errors, of which Adam makes steps of full size.
WITHOUT_GRADIENT = ("flow_predictor.laterals.0.bias", "flow_predictor.laterals.1.bias")


def test_every_way_of_training_gives_what_a_plain_loop_does(recipe: Recipe, tmp_path: Path) -> None:
    # With most seeds some gradient is so near to zero that its sign is chance; Adam's step has full size.
    recipe = recipe.model_copy(update={"seed": 7})
    expected, average = plain_loop(recipe, plan_stages(recipe)[0])
    assert expected[-1] != expected[0]
    for way, settings in WAYS.items():
        folder = world.train_here(changed(recipe, **settings))
        torch.testing.assert_close(losses(folder), expected, atol=1e-5, rtol=1e-5, msg=way)
        saved = ema(folder)
        for name, tensor in average.items():
            if not name.startswith(WITHOUT_GRADIENT):
                torch.testing.assert_close(saved[name], tensor, atol=1e-5, rtol=1e-5, msg=f"{way}: {name}")
        folder.rename(tmp_path / way)


def test_checkpointed_activations_are_computed_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {False: 0, True: 0}
    forward = FactorizedUNet._at

    def counted(self: FactorizedUNet, *arguments: Any) -> Any:
        calls[self.gradient_checkpointing] += 1
        return forward(self, *arguments)

    monkeypatch.setattr(FactorizedUNet, "_at", counted)
    for checkpointed in (False, True):
        folder = world.train_here(changed(recipe, activation_checkpointing=checkpointed))
        shutil.rmtree(folder)
    # Each run counts its operations in one more pass, without checkpoints.
    assert calls[True] / (2 * STEPS) == calls[False] / (STEPS + 2)


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_an_interrupted_run_resumes_bit_for_bit(
    recipe: Recipe,
    zero_stage: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = changed(recipe, zero_stage=zero_stage, checkpoint_every_steps=2, validate_every_steps=3)
    folder = world.train_here(recipe)
    whole_losses, whole_ema = losses(folder), ema(folder)
    folder.rename(tmp_path / "uninterrupted")

    _interrupt_at(5, recipe, monkeypatch)
    (folder / "checkpoints" / "step-00000008").mkdir()  # one that a kill left half written
    torn = shutil.copytree(folder / "checkpoints" / "step-00000004", folder / "checkpoints" / "step-00000006")
    (torn / "rank-00000.safetensors").unlink()
    warn_of_torn_checkpoints(plan_stages(recipe))
    said = "step-00000006 is not whole any more; stage low goes on from step-00000004."
    assert said in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in whole_checkpoints(folder / "checkpoints")] == [
        "step-00000002",
        "step-00000004",
    ]
    world.train_here(recipe)

    assert losses(folder) == whole_losses
    assert all(torch.equal(tensor, whole_ema[name]) for name, tensor in ema(folder).items())
    assert len(whole_checkpoints(folder / "checkpoints")) == 2  # keep_checkpoints
    assert torch.nn.functional.linear is LINEAR  # ZeRO 3 had its own


def _interrupt_at(step: int, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until the backward pass of a step is done, then stop as if the process had ended there."""
    left, take_step = [step], loop.take_step

    def take(engine: Any) -> float:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return take_step(engine)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", take)
        with pytest.raises(KeyboardInterrupt):
            world.train_here(recipe)


def test_validation_does_not_change_training(recipe: Recipe, tmp_path: Path) -> None:
    folder = world.train_here(recipe)
    without = losses(folder)
    folder.rename(tmp_path / "without")
    world.train_here(changed(recipe, validate_every_steps=2))
    assert losses(folder) == without
    lines = read_log(folder / "validation.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[0]["clips"] == 4
    assert lines[-1]["loss"] != lines[0]["loss"]


def test_bf16_trains_and_resumes(recipe: Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = changed(recipe, precision="bf16", zero_stage=1, checkpoint_every_steps=2)
    folder = world.train_here(recipe)
    whole_losses = losses(folder)
    folder.rename(tmp_path / "uninterrupted")
    _interrupt_at(4, recipe, monkeypatch)
    world.train_here(recipe)
    assert losses(folder) == whole_losses


def test_a_stage_starts_from_the_ema_of_the_one_before(recipe: Recipe) -> None:
    second = {"name": "high", "tier": "high", "steps": 2, "learning_rate": 1e-9}
    tree = recipe.model_dump(mode="json")
    (Path(recipe.run_directory) / "data").rename(Path(recipe.run_directory) / "old")
    world.write_data(recipe, {"4x32x32": 6, "4x64x64": 5, "4x32x64": 2})
    tree["train"]["stages"] = [STAGE | {"steps": 2}, second]
    folder = world.train_here(Recipe.model_validate(tree))
    before, after = (
        ema(folder.parent / "low"),
        CheckpointReader(whole_checkpoints(folder / "checkpoints")[-1]),
    )
    assert all(torch.allclose(t, before[name], atol=1e-6) for name, t in after.full("weights").items())
    report = json.loads((folder / "weight_transfer.json").read_text())
    assert report["from"] == "EMA weights of stage low"
    assert report["initialised"] == report["left_out"] == []
    assert "flow_predictor" not in report["trained_parts"]  # no flow loss in this stage
    first = json.loads((folder.parent / "low" / "weight_transfer.json").read_text())
    assert first["trained_parts"].keys() == {"temporal_modules", "flow_predictor", "image_conv_in"}
    assert all(name.startswith("image.") for name in first["loaded"])


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_training_goes_on_from_a_finished_model_or_a_checkpoint(
    recipe: Recipe, kind: str, tmp_path: Path, training_models: dict[str, str]
) -> None:
    before = world.train_here(recipe)
    start = before / "model" if kind == "model" else whole_checkpoints(before / "checkpoints")[-1]
    still = {"name": "tuned", "tier": "low", "steps": 1, "learning_rate": 1e-9}
    tuned = world.recipe(tmp_path / "tuned", training_models, stages=[still], starts_from=str(start))
    world.write_data(tuned, CLIPS)
    folder = world.train_here(tuned)
    saved = CheckpointReader(whole_checkpoints(folder / "checkpoints")[-1]).full("weights")
    assert all(torch.allclose(t, ema(before)[name], atol=1e-6) for name, t in saved.items())
    report = json.loads((folder / "weight_transfer.json").read_text())
    assert report["from"] == f"EMA weights of {start}"
    assert report["initialised"] == []
    assert plan_stages(tuned)[0].finished
    shutil.rmtree(before)
    world.train_here(recipe)  # the same weights at another time are the same start
    assert plan_stages(tuned)[0].identity["starts_from"].startswith(kind)


def test_the_image_unet_may_be_of_another_folder_than_the_vae(
    recipe: Recipe, training_models: dict[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for part in ("unet", "scheduler"):
        shutil.copytree(Path(training_models["text_to_image"]) / part, other / part)
    unet = UNet2DConditionModel.from_pretrained(other / "unet")
    with torch.no_grad():
        unet.conv_out.bias.fill_(3.0)
    unet.save_pretrained(other / "unet")
    DDIMScheduler(prediction_type="epsilon").save_pretrained(other / "scheduler")
    models = recipe.models.model_copy(update={"image_unet": str(other)})
    video = untrained_unet(recipe.model_copy(update={"models": models}))
    assert (video.image.conv_out.bias == 3.0).all()
    assert video.config.prediction == "epsilon"
    assert not (untrained_unet(recipe).image.conv_out.bias == 3.0).any()


def test_a_start_of_another_network_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    model = world.train_here(recipe) / "model"
    with pytest.raises(CheckpointError, match=r"neither a finished model .* nor a whole checkpoint"):
        check_start(changed(recipe, starts_from=str(tmp_path)))
    wider = recipe.model_copy(update={"model": recipe.model.model_copy(update={"adapter_tokens": 8})})
    with pytest.raises(CheckpointError, match=r"model\.adapter_tokens: 4 → 8"):
        check_start(changed(wider, starts_from=str(model)))
    check_start(changed(recipe, starts_from=str(model)))


def test_data_sets_are_mixed_by_their_shares(
    recipe: Recipe, tmp_path: Path, training_models: dict[str, str]
) -> None:
    other = world.recipe(tmp_path / "pexels", training_models)
    world.write_data(other, CLIPS, named="pexels")
    mix = STAGE | {"mix": {"own": 1, "pexels": 3}, "steps": 8}
    mixed = changed(recipe, stages=[mix], datasets={"pexels": other.run_directory})
    with pytest.raises(ShardError, match=r"train\.datasets\.pexels: .* is no run directory"):
        plan_stages(mixed)
    write_recipe(other, RunLayout(Path(other.run_directory)))
    (plan,) = plan_stages(mixed)
    assert plan.clips == {"4x32x32": 10, "pexels/4x32x32": 10}
    index = read_index(mixed, plan.stage)
    stream = SampleStream(index.clips("train"), seed=0, batch_samples=4, shares=index.shares)
    assert stream.turns == {"4x32x32": 2, "pexels/4x32x32": 6}
    assert len(losses(world.train_here(mixed))) == 8
    faster = mixed.model_copy(update={"curation": mixed.curation.model_copy(update={"fps": 12.0})})
    with pytest.raises(ShardError, match=r"fps is 8\.0, not 12\.0"):
        plan_stages(faster)


def test_the_result_is_a_pipeline_that_draws(recipe: Recipe) -> None:
    from modeling.pipeline import FactorizedDreamerPipeline

    folder = world.train_here(recipe)
    pipeline = FactorizedDreamerPipeline.from_pretrained(folder / "model")
    assert torch.equal(
        pipeline.unet.state_dict()["image_conv_in.weight"], ema(folder)["image_conv_in.weight"]
    )
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        "a red star", "star moves", num_frames=4, height=32, width=32, num_inference_steps=2
    ).frames
    assert frames.shape == (1, 4, 32, 32, 3)


def test_utilisation_is_of_hardware_that_is_known_and_of_no_other(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.train_here(recipe)
    assert {line["mfu"] for line in read_log(folder / "log.jsonl")} == {None}
    shutil.rmtree(folder)
    monkeypatch.setattr(StageRun, "peak_tflops", 2.0)
    lines = read_log(world.train_here(recipe) / "log.jsonl")
    assert [line["mfu"] for line in lines] == [line["model_tflops"] / 2 for line in lines]


def test_a_loss_that_is_no_number_stops_with_the_clips_of_the_batch(
    run_directory: Path, training_models: dict[str, str]
) -> None:
    recipe = world.recipe(run_directory, training_models, stages=[STAGE])
    world.write_data(recipe, CLIPS, nan_clip=3)
    bad = read_index(recipe, recipe.train.stages[0]).clips("train")[0].clip_ids[3].as_py()
    with pytest.raises(TrainingStoppedError, match=rf"loss of step \d+ is nan.*{bad}"):
        world.train_here(recipe)


def test_a_checkpoint_of_another_recipe_is_refused_with_the_difference(recipe: Recipe) -> None:
    world.train_here(recipe)
    with pytest.raises(CheckpointError, match=r"train\.weight_decay: 0\.01 → 0\.5"):
        plan_stages(changed(recipe, weight_decay=0.5))
    assert plan_stages(changed(recipe, keep_checkpoints=5))[0].finished  # does not decide the losses


def test_an_unknown_part_is_refused_before_the_first_step(recipe: Recipe) -> None:
    with pytest.raises(PartsError, match="matches no parameter"):
        world.train_here(
            changed(recipe, stages=[STAGE, STAGE | {"name": "second", "trainable": ["tempral.*"]}])
        )
    assert not (Path(recipe.run_directory) / "train" / "low" / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"fps": 12}, "fps is 12, not 8"),
        ({"bucket": "8x32x32"}, "bucket is 8x32x32, not 4x32x32"),
        ({"text_to_image_sha256": "0" * 64}, r"VAE .* is 0000"),
        ({"fingerprint": "0" * 64}, r"fingerprint of curation\.precompute"),
    ],
)
def test_shards_that_do_not_fit_the_recipe_are_refused(
    run_directory: Path, training_models: dict[str, str], metadata: dict[str, Any], message: str
) -> None:
    recipe = world.recipe(run_directory, training_models, stages=[STAGE])
    world.write_data(recipe, CLIPS, **metadata)
    with pytest.raises(ShardError, match=message):
        plan_stages(recipe)


def test_what_is_left_out_or_repeats_is_said_before_the_start(
    run_directory: Path, training_models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    both = [STAGE, {"name": "high", "tier": "high", "steps": 10, "learning_rate": 1e-3}]
    recipe = world.recipe(run_directory, training_models, stages=both)
    world.write_data(recipe, {"4x32x32": 10, "4x32x64": 2})
    show_plans(plan_stages(recipe))
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert ["low", "4x32x32", "10", "2.4", "times"] in lines  # 6 steps of 4
    assert ["high", "4x64x64", "0", *["left", "out:", "no", "clip", "of", "split", "train"]] in lines
    repeats = "20.0 times less than a batch: they repeat in it"
    assert ["high", "4x32x64", "2", *repeats.split()] in lines


def test_kept_clips_without_a_shard_are_refused(recipe: Recipe) -> None:
    manifest = Path(recipe.run_directory) / "data" / "manifest" / "00000.json"
    manifest.write_text(json.dumps({"unit": 0, "shards": []}))
    with pytest.raises(ShardError, match="14 kept clips of bucket 4x32x32 are in no shard"):
        plan_stages(recipe)


def test_a_manifest_that_does_not_say_what_is_in_the_shards_is_refused(recipe: Recipe) -> None:
    manifest = Path(recipe.run_directory) / "data" / "manifest" / "00000.json"
    entry = json.loads(manifest.read_text())
    shards = [{name: value for name, value in entry["shards"][0].items() if name != "row_groups"}]
    manifest.write_text(json.dumps({**entry, "shards": shards}))
    with pytest.raises(ShardError, match=r"earlier version: run `dreamer curate` again"):
        plan_stages(recipe)
