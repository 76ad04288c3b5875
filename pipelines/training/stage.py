"""One stage of training on one worker: what it starts from, what a step needs, what it leaves."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from modeling.objective import Losses, count_valid_pixels, diffusion_loss
from modeling.randomness import SampleRandomness
from modeling.schedule import NoiseSchedule
from modeling.text import without_padding
from modeling.unet import FactorizedUNet
from pipelines.files import whole_folder, write_json
from pipelines.hardware import peak_flops
from pipelines.models import resolve_model
from pipelines.recipe import Recipe, StageSettings, TrainSettings
from pipelines.storage import storage_path
from pipelines.training.batch import Encoders, Prepared, prepare
from pipelines.training.checkpoint import (
    CheckpointReader,
    Position,
    check_identity,
    restore,
    whole_checkpoints,
    write_frozen,
)
from pipelines.training.ema import Ema
from pipelines.training.engine import end_engine, start_engine
from pipelines.training.flops import clip_flop
from pipelines.training.group import Group
from pipelines.training.log import StepLog
from pipelines.training.partition import Partition
from pipelines.training.parts import select_trainable, transfer_report
from pipelines.training.plan import StagePlan
from pipelines.training.start import MODEL_MARKER, first_unet, unet_settings
from pipelines.training.stream import (
    ReadAhead,
    RowReader,
    Sample,
    SampleStream,
    training_stream,
    worker_slice,
)


@dataclass
class StageRun:
    """A stage under way: everything that the loop reads or moves on."""

    recipe: Recipe
    plan: StagePlan
    group: Group
    encoders: Encoders
    unet_config: dict[str, Any]
    trained: list[str]
    engine: Any
    partition: Partition
    ema: Ema
    schedule: NoiseSchedule
    stream: SampleStream
    reader_of_validation: RowReader  # the training one belongs to the thread that reads ahead
    log: StepLog | None  # worker 0 writes it
    validation_log: StepLog | None
    step: int
    ahead: ReadAhead
    batches: Iterator[list[Prepared]]  # this worker's micro-batches of each step
    _flop: dict[tuple[int, ...], float] = field(default_factory=dict)

    @property
    def stage(self) -> StageSettings:
        return self.plan.stage

    @property
    def settings(self) -> TrainSettings:
        return self.plan.settings

    @property
    def folder(self) -> Path:
        return self.plan.folder

    @property
    def last_step(self) -> int:
        return self.plan.steps

    def position(self) -> Position:
        samples = self.step * self.settings.global_batch_clips
        world = {
            "workers": self.group.size,
            "threads": torch.get_num_threads(),
            "zero_stage": self.settings.zero_stage,
            "micro_batch_clips": self.micro_batch_clips,
            "device": self.group.device.type,
        }
        return Position(self.step, samples, self.plan.identity, world)

    def clip_ids(self, step: int) -> list[str]:
        """Clips of the global batch of a step."""
        return [sample.clip_id for sample in self.stream.batch(step - 1)]

    @property
    def micro_batch_clips(self) -> int:
        """Clips that a worker passes through the network at a time."""
        return self.settings.micro_batch_clips or self.settings.global_batch_clips // self.group.size

    def losses(self, parts: list[Prepared]) -> Iterator[Losses]:
        """Forward pass of each of this worker's micro-batches, when it is asked for."""
        batches = [self.model_batch(part) for part in parts]
        weight = self.stage.flow_weight if self.stage.predict_flow else 0.0
        valid = None
        if weight > 0:  # the mean over all micro-batches' valid pixels, however a batch is divided
            counts = [
                count_valid_pixels(self.schedule, batch, draws.timesteps, self.stage.flow_min_snr)
                for batch, draws in batches
            ]
            valid = self.group.means(torch.stack(counts).mean())[0]
        for batch, draws in batches:
            yield diffusion_loss(
                self.engine,
                self.schedule,
                batch,
                draws.noise,
                draws.timesteps,
                flow_weight=weight,
                flow_min_snr=self.stage.flow_min_snr,
                valid_pixels=valid,
            )

    def model_batch(self, ready: Prepared) -> tuple[dict[str, Any], SampleRandomness]:
        """What the model gets for this worker's part of a batch."""
        return self.encoders.model_batch(
            ready,
            fps=self.recipe.curation.fps,
            motion_scores=self.plan.has_motion_scores,
            dtype=self.dtype,
        )

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.settings.precision == "bf16" else torch.float32

    @cached_property
    def peak_tflops(self) -> float | None:
        """10¹² operations a second of all workers' GPUs at their peak; None if that is not known."""
        if self.group.device.type != "cuda":
            return None
        peak = peak_flops(torch.cuda.get_device_name(self.group.device), self.settings.precision)
        return None if peak is None else peak * self.group.size / 1e12

    def batch_tflop(self, ready: Prepared) -> float:
        """10¹² operations of the model in one global batch like `ready`."""
        shape = tuple(ready.rows["latents_mean"].shape[1:])
        if shape not in self._flop:
            one = clip_flop(
                self.unet_config,
                set(self.trained),
                self._input_shapes(ready),
                predict_flow=self.stage.predict_flow,
                device="cpu" if self.group.device.type == "cpu" else "meta",
            )
            self._flop[shape] = one * self.settings.global_batch_clips / 1e12
        return self._flop[shape]

    def _input_shapes(self, ready: Prepared) -> dict[str, tuple[int, ...]]:
        channels, frames, height, width = ready.rows["latents_mean"].shape[1:]
        shapes: dict[str, tuple[int, ...]] = {
            "latents": (1, channels, frames, height, width),
            "text_tokens": tuple(self.encoders.empty_text_tokens.shape),
            "image_latents": (1, channels, height, width),
            "image_tokens": (1, *ready.rows["image_features"].shape[1:]),
        }
        if self.encoders.motion is not None:
            tokens = without_padding(ready.rows["motion_ids"]).shape[1]
            shapes["motion_tokens"] = (1, tokens, self.encoders.motion.config.hidden_size)
        return shapes

    def close(self) -> None:
        self.ahead.close()
        for log in (self.log, self.validation_log):
            if log is not None:
                log.close()
        end_engine(self.engine)


# ---------------------------------------------------------------- starting


def open_stage(recipe: Recipe, plan: StagePlan, group: Group, encoders: Encoders) -> StageRun:
    """A stage at its last whole checkpoint, or at its start. Every worker calls this alike."""
    checkpoint = _agreed_checkpoint(plan, group)
    if plan.previous_model is None:
        unet, source = first_unet(recipe)
    else:
        unet = FactorizedUNet.from_pretrained(
            resolve_model(str(plan.previous_model)) / "unet", use_safetensors=True
        )
        source = f"EMA weights of stage {plan.previous_name}"
    predicted = unet.config.prediction
    unet.register_to_config(prediction=plan.stage.schedule.prediction, _name_or_path=None)
    trained = select_parts(unet, plan.stage, has_motion_scores=plan.has_motion_scores)
    unet_config = dict(unet.config)
    if group.rank == 0:
        report = transfer_report(unet, source, predicted, trained, unet.weight_transfer)
        write_json(plan.folder / "weight_transfer.json", report)
    if checkpoint is None:
        if group.rank == 0:
            names = set(trained)
            write_frozen(
                plan.folder / "checkpoints", {n: t for n, t in unet.state_dict().items() if n not in names}
            )
    else:
        unet.load_state_dict(checkpoint.full("weights"), strict=True)

    # Fused layouts and dropout aside, training mode only matters to activation checkpointing here.
    unet = unet.to(group.device).train()
    if plan.settings.activation_checkpointing:
        unet.enable_gradient_checkpointing()
    engine = start_engine(unet, plan.stage, plan.settings, group.size)
    partition = Partition(engine)
    ema = Ema(partition)
    step = 0
    if checkpoint is not None:
        restore(checkpoint, partition, ema)
        step = checkpoint.position.step
    index = plan.index
    stream = training_stream(index, plan.settings, plan.seed)
    reader = RowReader(index.load, index.decode)
    schedule = noise_schedule(plan.stage)

    def ready(number: int) -> list[Prepared]:
        share = worker_slice(stream.batch(number), group.rank, group.size)
        size = plan.settings.micro_batch_clips or len(share)
        return [micro_batch(share[first : first + size]) for first in range(0, len(share), size)]

    def micro_batch(samples: list[Sample]) -> Prepared:
        return prepare(
            samples,
            reader.rows(samples),
            seed=plan.seed,
            drop_probability=plan.settings.drop_probability,
            motion_score_drop_probability=plan.settings.motion_score_drop_probability,
            image_noise=plan.settings.image_noise,
            num_train_timesteps=schedule.num_train_timesteps,
        )

    ahead = ReadAhead(ready, step, plan.steps)
    log, validation_log = (
        StepLog(plan.folder / name, after_step=step) if group.rank == 0 else None
        for name in ("log.jsonl", "validation.jsonl")
    )
    return StageRun(
        recipe=recipe,
        plan=plan,
        group=group,
        encoders=encoders,
        unet_config=unet_config,
        trained=trained,
        engine=engine,
        partition=partition,
        ema=ema,
        schedule=schedule,
        stream=stream,
        reader_of_validation=RowReader(index.load, index.decode),
        log=log,
        validation_log=validation_log,
        step=step,
        ahead=ahead,
        batches=iter(ahead),
    )


def noise_schedule(stage: StageSettings) -> NoiseSchedule:
    return NoiseSchedule(**stage.schedule.model_dump())


def check_networks(recipe: Recipe) -> None:
    """Build the network and its schedules and select the parts of every stage; allocates nothing.

    Raises ValueError (PartsError for a pattern that fits no parameter) now, not hours later in a worker.
    """
    unet = meta_unet(recipe)
    for stage in recipe.train.stages if recipe.train else ():
        noise_schedule(stage)
        select_parts(unet, stage, has_motion_scores=True)


def meta_unet(recipe: Recipe) -> FactorizedUNet:
    """The video model by its configuration alone: no weights are read and no memory is taken."""
    config = UNet2DConditionModel.load_config(resolve_model(recipe.models.start_unet) / "unet")
    with torch.device("meta"):
        return FactorizedUNet(image_unet=config, **unet_settings(recipe))


def select_parts(unet: FactorizedUNet, stage: StageSettings, *, has_motion_scores: bool) -> list[str]:
    """Let a stage's parameters train, but for those that get no gradient in it. Returns their names."""
    unreached = [] if stage.predict_flow else ["flow_predictor.*"]
    unreached += [] if has_motion_scores else ["motion_score_embedding.*"]
    return select_trainable(unet, stage.trainable, unreached=unreached)


def _agreed_checkpoint(plan: StagePlan, group: Group) -> CheckpointReader | None:
    """The newest whole checkpoint, the same one on every worker."""
    folder = plan.folder / "checkpoints"
    whole = whole_checkpoints(folder) if group.rank == 0 else []
    chosen = group.from_first(str(whole[-1]) if whole else None)
    if chosen is None:
        return None
    check_identity(storage_path(chosen), plan.identity)
    return CheckpointReader(storage_path(chosen))


# ---------------------------------------------------------------- finishing


def finish_stage(run: StageRun) -> None:
    """Leave the stage's result, whole or not there: a pipeline folder with EMA weights."""
    run.group.barrier()  # the last checkpoint has its name
    if run.group.rank == 0:
        from pipelines.training.export import assemble_pipeline

        newest = CheckpointReader(whole_checkpoints(run.folder / "checkpoints")[-1])
        unet = FactorizedUNet.from_config(run.unet_config)
        unet.load_state_dict(newest.full("ema"), strict=True)
        with whole_folder(run.folder / "model", marker=MODEL_MARKER) as folder:
            assemble_pipeline(run.recipe, unet, run.schedule).save_pretrained(folder, safe_serialization=True)
            told = {"identity": run.plan.identity, "step": run.step, "weights": "ema"}
            write_json(folder / MODEL_MARKER, told)
    run.group.barrier()
