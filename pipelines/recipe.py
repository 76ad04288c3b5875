"""A recipe: everything that decides a run, as data.

Frozen models, one per component; pipelines.recipe_file reads them from YAML. Every field says its unit in its
name or its description.
"""

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_serializer,
    model_validator,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
OWN_CLIPS = "own"  # the run's own data set, where others have names


class RecipeError(ValueError):
    """A recipe that cannot be run; the message names every fault and its mend."""


class Settings(BaseModel):
    # Defaults too: 8 for a float would be written as 8, and 8.0 once it was read back from a file.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Bucket(Settings):
    """(frames, height, width) that a clip is resized to; written `8x64x64`."""

    frames: PositiveInt
    height: PositiveInt
    width: PositiveInt

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"

    @model_serializer
    def _as_written(self) -> str:
        return str(self)


def parse_bucket(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", value)
    if match is None:
        raise ValueError(f"a bucket is FRAMESxHEIGHTxWIDTH, such as 16x320x512, not {value!r}")
    return dict(zip(("frames", "height", "width"), map(int, match.groups()), strict=True))


BucketName = Annotated[Bucket, BeforeValidator(parse_bucket)]


# ---------------------------------------------------------------- data and curation


class Columns(Settings):
    """Which column of the source table holds what; the defaults are WebVid's names."""

    source_id: str = "videoid"
    uri: str = "contentUrl"
    caption: str = "name"
    split: str | None = Field(None, description="without one, every source is `train`")
    license: str | None = None
    labels: tuple[str, ...] = Field((), description="extra columns kept as JSON in `labels`")


class DataSettings(Settings):
    table: str = Field(description="CSV, JSONL or Parquet table, or a folder of videos with .txt captions")
    root: str | None = Field(None, description="where relative paths resolve; default: the table's folder")
    columns: Columns = Columns()
    limit: PositiveInt | None = Field(None, description="only the first N sources, for a first look")
    exclude_sources: str | None = Field(
        None, description="file of source ids, one a line, to take down; the run directory remembers them"
    )


class DecodeSettings(Settings):
    timeout_seconds: PositiveFloat = 60
    max_memory_gb: PositiveFloat = 4
    temporary_gb: PositiveFloat = Field(
        8, description="disk that a worker's fetched files may take; beyond it, idle ones are fetched anew"
    )
    score_short_side_pixels: PositiveInt = Field(256, description="size at which clips are scored")


class ShotSettings(Settings):
    detector: Literal["content", "adaptive", "transnetv2", "none"] = "adaptive"
    threshold: PositiveFloat | None = Field(None, description="default: the detector's own")
    weights: str | None = Field(None, description="file of TransNetV2's weights")
    gpus_per_task: Annotated[float, Field(ge=0)] = Field(
        0,
        description="share of a GPU that a scoring task takes for TransNetV2 and the CLIP of image_scores; "
        "0: they run on the CPU",
    )
    clips_per_shot: PositiveInt = Field(1, description="clips cut from a shot's start on, at most")

    @model_validator(mode="after")
    def _network_has_weights(self) -> Self:
        if (self.detector == "transnetv2") != (self.weights is not None):
            raise ValueError("detector=transnetv2 and weights=FILE go together")
        return self


class ImageScoreSettings(Settings):
    """Weights that look at each clip's middle frame; without them aesthetic_score and text_match are null."""

    clip: str | None = Field(
        None,
        description="transformers CLIPModel folder, both towers: what picture and caption are compared by",
    )
    aesthetic_head: str | None = Field(
        None,
        description="file of linear layers that rate a picture by that CLIP's features of it, such as "
        "LAION's improved aesthetic predictor for ViT-L/14: .pth or .safetensors",
    )

    @model_validator(mode="after")
    def _head_has_features(self) -> Self:
        if self.aesthetic_head is not None and self.clip is None:
            raise ValueError(
                "aesthetic_head rates the features of a CLIP: set clip=FOLDER too, the one that the head was "
                "trained on"
            )
        return self


class FilterSettings(Settings):
    """Thresholds; null switches a filter off. The text detector, the one dear score, then does not run."""

    min_motion: float | None = Field(
        None, description="mean optical flow, % of the frame's diagonal per second"
    )
    max_motion: float | None = None
    max_static: Fraction | None = Field(None, description="share of frame pairs without any change")
    min_scene_change: Fraction | None = Field(
        None, description="share of the frame that an even camera move over one picture does not explain"
    )
    max_text_area: Fraction | None = Field(None, description="share of the frame under detected text")
    max_watermark_area: Fraction | None = Field(
        None, description="share of the frame under text that stays in its place"
    )
    min_sharpness: float | None = Field(
        None, description="Laplacian over gradient in the sharpest hundredth of the frame, 1/pixel"
    )
    min_luminance: float | None = Field(None, ge=0, le=255)
    max_luminance: float | None = Field(None, ge=0, le=255)
    min_aesthetic: float | None = Field(
        None, description="rating by image_scores.aesthetic_head; LAION's gives about 1 to 10"
    )
    min_text_match: float | None = Field(
        None, ge=-1, le=1, description="cosine of caption and middle frame by image_scores.clip"
    )
    max_phash_distance: int | None = Field(
        None, ge=0, le=8, description="bits of 64 in which near-duplicates may differ; null: no such filter"
    )

    @property
    def reads_text(self) -> bool:
        """Whether a filter needs the text detector."""
        return self.max_text_area is not None or self.max_watermark_area is not None


class CaptionSettings(Settings):
    """How captions are split into appearance and motion; a model's refused answers fall back to the rules."""

    splitter: Literal["rules", "model"] = "rules"
    model: str | None = Field(
        None, description="transformers folder of a causal or sequence-to-sequence language model"
    )
    batch_captions: PositiveInt = Field(32, description="captions per batch of the model")
    max_new_tokens: PositiveInt = Field(160, description="tokens of the model's answer, at most")

    @model_validator(mode="after")
    def _model_is_used(self) -> Self:
        if (self.splitter == "model") != (self.model is not None):
            raise ValueError("captions.splitter=model and captions.model=FOLDER go together")
        return self


class PrecomputeSettings(Settings):
    splits: tuple[str, ...] = ("train", "validation")
    batch_clips: PositiveInt = Field(4, description="clips per VAE batch; part of the fingerprint")
    threads: PositiveInt = Field(1, description="threads of the networks; part of the fingerprint")
    max_upscale: PositiveFloat = Field(1.5, description="a clip is never enlarged by more than this")
    image_tokens: Annotated[int, Field(ge=1, le=64)] = 16
    motion_tokens: PositiveInt = Field(64, description="T5 ids kept of a motion caption, end token included")
    row_group_clips: PositiveInt = 32
    shard_megabytes: PositiveInt = 384


class CurationSettings(Settings):
    units: PositiveInt | None = Field(
        None,
        description="units of work, fixed at the first run of a run directory; default: one for 256 sources, "
        "at least 16",
    )
    fps: PositiveFloat = Field(8, description="frames per second that clips are sampled at")
    tiers: dict[str, Annotated[tuple[BucketName, ...], Field(min_length=1)]] = Field(
        min_length=1, description="resolutions: a clip goes into the best-fitting bucket of each tier"
    )
    decode: DecodeSettings = DecodeSettings()
    shots: ShotSettings = ShotSettings()
    image_scores: ImageScoreSettings = ImageScoreSettings()
    filters: FilterSettings = FilterSettings()
    captions: CaptionSettings = CaptionSettings()
    precompute: PrecomputeSettings = PrecomputeSettings()

    @model_validator(mode="after")
    def _filters_have_scores(self) -> Self:
        for name, needed in (("min_aesthetic", "aesthetic_head"), ("min_text_match", "clip")):
            if getattr(self.filters, name) is not None and getattr(self.image_scores, needed) is None:
                raise ValueError(
                    f"filters.{name} needs a score that nothing computes: set image_scores.{needed}, or "
                    f"filters.{name}=null"
                )
        return self

    @property
    def clip_frames(self) -> tuple[int, ...]:
        """Lengths that a clip can have, those of the buckets, the longest first."""
        return tuple(sorted({b.frames for buckets in self.tiers.values() for b in buckets}, reverse=True))

    @property
    def clip_seconds(self) -> float:
        """Length of a clip of which the shot has enough: the frames of the longest bucket."""
        return self.clip_frames[0] / self.fps


# ---------------------------------------------------------------- models


class ModelPaths(Settings):
    """Folders in Hugging Face / diffusers format; `embedded://NAME` is a model of this package."""

    text_to_image: str = Field(
        description="diffusers Stable Diffusion pipeline; its VAE, text encoder and UNet are used"
    )
    image_encoder: str = Field(description="transformers CLIPVisionModelWithProjection / CLIPModel folder")
    motion_encoder: str = Field(description="transformers T5 encoder folder, with its tokenizer")
    flow: str | None = Field(
        None,
        description="optical flow network such as RAFT, a torch.export file (.pt2): two batches of frames "
        "(N, 3, H, W) in -1..1 to flow (N, 2, H, W) in pixels; default: OpenCV's DIS on the CPU",
    )
    video_classifier: str | None = Field(None, description="features for the Fréchet video distance")


class ModelSettings(Settings):
    """Which of the added parts the video UNet has; what is off costs nothing."""

    image_conditioning: bool = True
    adapter: bool = True
    pixel_attention: bool = True
    motion_encoder: bool = True
    predict_net: bool = True
    temporal_head_dim: PositiveInt = Field(64, description="channels per head of the temporal attentions")
    temporal_spatial_kernel: PositiveInt = Field(
        1, description="latent pixels, odd: side of the temporal convolution in space"
    )
    temporal_feed_forward_factor: PositiveInt = 4
    adapter_tokens: PositiveInt = Field(16, description="tokens that the image features are brought to")
    adapter_width: PositiveInt = 768
    adapter_depth: PositiveInt = 2
    adapter_head_dim: PositiveInt = 64
    pixel_attention_head_dim: PositiveInt = 64
    pixel_attention_window: PositiveInt | None = Field(
        None, description="latent pixels, even; null: full attention"
    )
    predict_net_width: PositiveInt = 128


class ScheduleSettings(Settings):
    shift: PositiveFloat = Field(1.0, description="s of ᾱ' = ᾱ / (s + (1 − s) ᾱ)")
    terminal_snr: Annotated[float, Field(ge=0)] = 0.0
    prediction: Literal["v", "epsilon"] = "v"

    @model_validator(mode="after")
    def _has_a_signal(self) -> Self:
        if self.prediction == "epsilon" and self.terminal_snr == 0:
            raise ValueError(
                "epsilon prediction carries no signal at terminal_snr=0: set a small positive one, 1e-3"
            )
        return self


# ---------------------------------------------------------------- training


class StageSettings(Settings):
    name: FolderName
    tier: str
    steps: PositiveInt
    learning_rate: PositiveFloat
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="the rate rises over the first N steps")
    decay_steps: Annotated[int, Field(ge=0)] = Field(0, description="and falls to zero over the last N")
    trainable: tuple[str, ...] = Field(
        ("*",), description="patterns of parameter names; each must match some"
    )
    schedule: ScheduleSettings = ScheduleSettings()
    mix: Annotated[dict[str, PositiveFloat], Field(min_length=1)] | None = Field(
        None,
        description="share of the samples from each of train.datasets, in any unit; `own` is this run's; "
        "default: own clips alone",
    )
    predict_flow: bool = False
    flow_weight: Annotated[float, Field(ge=0)] = 0.0

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
        _refuse_doubles("stages", [stage.name for stage in self.stages])
        return self


# ---------------------------------------------------------------- sampling and evaluation


class SamplingSettings(Settings):
    steps: PositiveInt = 25
    scheduler: Literal["ddim", "dpmsolver++", "unipc"] = "ddim"
    guidance_scale_text: float = 7.5
    guidance_scale_image: float = 1.0
    guidance_rescale: Fraction = 0.7
    motion_score: float | None = Field(
        None, description="how much shall move, as in the clip table; null: not told"
    )


class EvaluationSet(Settings):
    """Held-out clips: their first frame and motion caption go in, their frames are the reference."""

    name: FolderName
    split: str
    clips: PositiveInt


class EvaluateSettings(Settings):
    tier: str
    sets: Annotated[tuple[EvaluationSet, ...], Field(min_length=1)]
    untrained_clips: Annotated[int, Field(ge=0)] = Field(
        0, description="clips that the untrained model draws too, as the floor of every metric"
    )
    motion_labels: str | None = Field(
        None,
        description="label column that lists a clip's objects: motion, and box in the first frame",
    )
    dynamic_threshold: PositiveFloat = Field(
        0.05, description="short sides per second that the fastest 5 % of pixels move in a dynamic video"
    )
    batch_clips: PositiveInt = 16
    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    sampling: SamplingSettings = SamplingSettings()

    @model_validator(mode="after")
    def _sets_differ(self) -> Self:
        _refuse_doubles("sets", [each.name for each in self.sets])
        return self


def _refuse_doubles(what: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"names of {what} must differ: {', '.join(names)}")


class TrackingSettings(Settings):
    uri: str | None = Field(None, description="MLflow tracking URI; default: SQLite in the run directory")
    experiment: str = "factorized-dreamer"


# ---------------------------------------------------------------- the whole


class Recipe(Settings):
    name: str
    run_directory: str
    seed: int = 0
    data: DataSettings
    curation: CurationSettings
    models: ModelPaths
    model: ModelSettings = ModelSettings()
    train: TrainSettings | None = None
    evaluate: EvaluateSettings | None = None
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _tiers_exist(self) -> Self:
        used = [(f"train.stages.{s.name}", s.tier) for s in (self.train.stages if self.train else ())]
        used += [("evaluate", self.evaluate.tier)] if self.evaluate else []
        for where, tier in used:
            if tier not in self.curation.tiers:
                raise ValueError(
                    f"{where}: tier {tier!r} is none of curation.tiers {sorted(self.curation.tiers)}"
                )
        return self

    @model_validator(mode="after")
    def _flow_has_a_network(self) -> Self:
        wanted = [s.name for s in (self.train.stages if self.train else ()) if s.predict_flow]
        if wanted and not self.model.predict_net:
            raise ValueError(f"stage {wanted[0]} has predict_flow=true, but model.predict_net is false")
        return self

    @model_validator(mode="after")
    def _labels_are_kept(self) -> Self:
        label = self.evaluate.motion_labels if self.evaluate else None
        if label is not None and label not in self.data.columns.labels:
            raise ValueError(f"evaluate.motion_labels: {label!r} is none of data.columns.labels")
        return self


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with paths that mean the same in every process and folder; addresses stay as they are."""

    def absolute(path: str | None) -> str | None:
        return path if path is None or "://" in path else os.path.abspath(path)

    data = {name: absolute(getattr(recipe.data, name)) for name in ("table", "root", "exclude_sources")}
    models = {name: absolute(path) for name, path in recipe.models.model_dump().items()}
    captions = {"model": absolute(recipe.curation.captions.model)}
    shots = recipe.curation.shots.model_copy(update={"weights": absolute(recipe.curation.shots.weights)})
    image_scores = {name: absolute(path) for name, path in recipe.curation.image_scores.model_dump().items()}
    train = recipe.train
    if train is not None:
        datasets = {name: absolute(path) for name, path in train.datasets.items()}
        train = train.model_copy(update={"starts_from": absolute(train.starts_from), "datasets": datasets})
    return recipe.model_copy(
        update={
            "train": train,
            "run_directory": absolute(recipe.run_directory),
            "data": recipe.data.model_copy(update=data),
            "curation": recipe.curation.model_copy(
                update={
                    "captions": recipe.curation.captions.model_copy(update=captions),
                    "shots": shots,
                    "image_scores": recipe.curation.image_scores.model_copy(update=image_scores),
                }
            ),
            "models": recipe.models.model_copy(update=models),
        }
    )
