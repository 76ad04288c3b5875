"""Stages, and how they are trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipelines.recipe.base import FolderName, Fraction, Settings, refuse_doubles
from pipelines.recipe.model import ScheduleSettings

OWN_CLIPS = "own"  # the run's own data set, where others have names


class StageSettings(Settings):
    name: FolderName
    tier: str
    steps: PositiveInt
    learning_rate: PositiveFloat
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="the rate rises over the first N steps")
    decay_steps: Annotated[int, Field(ge=0)] = Field(0, description="and falls to zero over the last N")
    trainable: tuple[str, ...] = Field(
        ("*",),
        description="patterns of parameter names, `!PATTERN` for what stays frozen; each must match some",
    )
    schedule: ScheduleSettings = ScheduleSettings()
    mix: Annotated[dict[str, PositiveFloat], Field(min_length=1)] | None = Field(
        None,
        description="share of the samples from each of train.datasets, in any unit; `own` is this run's; "
        "default: own clips alone",
    )
    predict_flow: bool = False
    flow_weight: Annotated[float, Field(ge=0)] = 0.0
    flow_min_snr: Annotated[float, Field(ge=0)] = Field(
        0.05, description="flow is not asked for in noisier samples; 0: in all"
    )

    @model_validator(mode="after")
    def _flow_is_weighed(self) -> Self:
        if self.predict_flow != (self.flow_weight > 0):
            raise ValueError("predict_flow=true and flow_weight > 0 go together")
        return self


class TrainSettings(Settings):
    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    threads_per_worker: PositiveInt | None = Field(
        None, description="torch threads; default: all that PyTorch takes"
    )
    global_batch_clips: PositiveInt = Field(description="fixed; workers only divide it")
    micro_batch_clips: PositiveInt | None = Field(
        None, description="clips that a worker passes through the network at a time; default: its whole share"
    )
    activation_checkpointing: bool = Field(
        False, description="keep fewer activations and compute them again: less memory, a third more work"
    )
    zero_stage: Literal[0, 1, 2, 3] = 2
    offload_optimizer: bool = Field(False, description="AdamW's state and step on the CPU; ZeRO 1 to 3")
    offload_parameters: bool = Field(False, description="weights too, fetched layer by layer; ZeRO 3")
    precision: Literal["fp32", "bf16"] = "fp32"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: PositiveFloat = 1.0
    ema_half_life_samples: PositiveFloat = 10_000
    drop_probability: Fraction = Field(
        0.05, description="p: text is dropped for r < 2p, image for p <= r < 3p"
    )
    motion_score_drop_probability: Fraction = Field(
        0.5, description="samples that are not told their motion score, as sampling need not tell one"
    )
    image_noise: Fraction = Field(
        0.1, description="largest standard deviation of the noise on the image latent"
    )
    checkpoint_every_steps: PositiveInt = 500
    keep_checkpoints: PositiveInt = 2
    validate_every_steps: PositiveInt | None = None
    validation_clips: PositiveInt = Field(64, description="clips of the split `validation`, at most")
    sample_every_steps: PositiveInt | None = Field(
        None, description="draw clips of the split `validation` to train/STAGE/samples; null: never"
    )
    sample_clips: PositiveInt = Field(4, description="how many of them, at most")
    max_failures: Annotated[int, Field(ge=0)] = 3
    starts_from: str | None = Field(
        None,
        description="finished model or checkpoint of ours (train/STAGE/model or .../checkpoints/step-N) that "
        "the first stage goes on from; default: the image UNet",
    )
    datasets: dict[FolderName, str] = Field(
        {}, description="run directories that other recipes curated, by the names that stages mix them under"
    )
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.global_batch_clips % self.workers:
            raise ValueError(
                f"global_batch_clips={self.global_batch_clips} cannot be divided among workers={self.workers}"
            )
        share = self.global_batch_clips // self.workers
        if self.micro_batch_clips is not None and share % self.micro_batch_clips:
            raise ValueError(
                f"a worker's {share} clips of a batch cannot be divided by "
                f"micro_batch_clips={self.micro_batch_clips}"
            )
        if self.precision == "bf16" and self.zero_stage == 0:
            raise ValueError("precision=bf16 needs zero_stage >= 1: stage 0 keeps no fp32 weights")
        if self.offload_optimizer and self.zero_stage == 0:
            raise ValueError("offload_optimizer=true needs zero_stage >= 1")
        if self.offload_parameters and self.zero_stage < 3:
            raise ValueError("offload_parameters=true needs zero_stage=3")
        if OWN_CLIPS in self.datasets:
            raise ValueError(f"datasets: {OWN_CLIPS!r} is the name of this run's own clips")
        for stage in self.stages:
            if unknown := sorted(set(stage.mix or ()) - {OWN_CLIPS, *self.datasets}):
                raise ValueError(
                    f"stages.{stage.name}.mix: {unknown[0]!r} is none of {[OWN_CLIPS, *self.datasets]}"
                )
        refuse_doubles("stages", [stage.name for stage in self.stages])
        return self
