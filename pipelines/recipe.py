"""A recipe: everything that decides a run, as data.

A recipe is a YAML file parsed into frozen models, one per component. Unknown keys are errors that
name the nearest known key; every field says its unit in its name or its description.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_serializer,
    model_validator,
)

RECIPES = Path(__file__).parent.parent / "jobs" / "recipes"
Fraction = Annotated[float, Field(ge=0, le=1)]


class RecipeError(ValueError):
    """A recipe that cannot be run; the message names every fault and its mend."""


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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


class DecodeSettings(Settings):
    timeout_seconds: PositiveFloat = 60
    max_memory_gb: PositiveFloat = 4
    score_short_side_pixels: PositiveInt = Field(256, description="size at which clips are scored")


class ShotSettings(Settings):
    detector: Literal["content", "adaptive", "none"] = "adaptive"
    threshold: PositiveFloat | None = Field(None, description="default: the detector's own")
    clips_per_shot: PositiveInt = Field(1, description="clips cut from a shot's start on, at most")


class FilterSettings(Settings):
    """Thresholds; null switches a filter off. The text detector, the one dear score, then does not run."""

    min_motion: float | None = Field(
        None, description="mean optical flow, % of the frame's diagonal per second"
    )
    max_motion: float | None = None
    max_static: Fraction | None = Field(None, description="share of frame pairs without any change")
    max_text_area: Fraction | None = Field(None, description="share of the frame under detected text")
    min_sharpness: float | None = Field(None, description="variance of the Laplacian, 8-bit grey values")
    min_luminance: float | None = Field(None, ge=0, le=255)
    max_luminance: float | None = Field(None, ge=0, le=255)
    max_phash_distance: int | None = Field(None, ge=0, le=64, description="bits; null: no duplicate filter")


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
    units: PositiveInt = Field(8, description="units of work, fixed at the first run of a run directory")
    fps: PositiveFloat = Field(8, description="frames per second that clips are sampled at")
    tiers: dict[str, tuple[BucketName, ...]] = Field(
        description="resolutions: a clip goes into the best-fitting bucket of each tier"
    )
    decode: DecodeSettings = DecodeSettings()
    shots: ShotSettings = ShotSettings()
    filters: FilterSettings = FilterSettings()
    precompute: PrecomputeSettings = PrecomputeSettings()

    @property
    def clip_seconds(self) -> float:
        """Length of a clip: the frames of the longest bucket."""
        return max(bucket.frames for buckets in self.tiers.values() for bucket in buckets) / self.fps


# ---------------------------------------------------------------- models


class ModelPaths(Settings):
    """Folders in Hugging Face / diffusers format; `embedded://NAME` is a model of this package."""

    text_to_image: str = Field(
        description="diffusers Stable Diffusion pipeline; its VAE, text encoder and UNet are used"
    )
    image_encoder: str = Field(description="transformers CLIPVisionModelWithProjection / CLIPModel folder")
    motion_encoder: str = Field(description="transformers T5 encoder folder, with its tokenizer")
    video_classifier: str | None = Field(None, description="features for the Fréchet video distance")


class ModelSettings(Settings):
    """Which of the added parts the video UNet has; what is off costs nothing."""

    image_conditioning: bool = True
    adapter: bool = True
    pixel_attention: bool = True
    motion_encoder: bool = True
    predict_net: bool = True
    temporal_head_dim: PositiveInt = Field(64, description="channels per head of the temporal attentions")
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


# ---------------------------------------------------------------- training


class StageSettings(Settings):
    name: str
    tier: str
    steps: PositiveInt
    learning_rate: PositiveFloat
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    trainable: tuple[str, ...] = Field(
        ("*",), description="patterns of parameter names; each must match some"
    )
    schedule: ScheduleSettings = ScheduleSettings()
    predict_flow: bool = False
    flow_weight: Annotated[float, Field(ge=0)] = 0.0


class TrainSettings(Settings):
    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    threads_per_worker: PositiveInt | None = Field(
        None, description="torch threads; default: all that PyTorch takes"
    )
    global_batch_clips: PositiveInt = Field(description="fixed; workers only divide it")
    zero_stage: Literal[0, 1, 2, 3] = 2
    precision: Literal["fp32", "bf16"] = "fp32"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: PositiveFloat = 1.0
    ema_half_life_samples: PositiveFloat = 10_000
    drop_probability: Fraction = Field(
        0.05, description="p: text is dropped for r < 2p, image for p <= r < 3p"
    )
    image_noise: Fraction = Field(
        0.1, description="largest standard deviation of the noise on the image latent"
    )
    checkpoint_every_steps: PositiveInt = 500
    keep_checkpoints: PositiveInt = 2
    validate_every_steps: PositiveInt | None = None
    validation_clips: PositiveInt = Field(64, description="clips of the split `validation`, at most")
    max_failures: Annotated[int, Field(ge=0)] = 3
    stages: tuple[StageSettings, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.global_batch_clips % self.workers:
            raise ValueError(
                f"global_batch_clips={self.global_batch_clips} cannot be divided among workers={self.workers}"
            )
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must differ: {names}")
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

    name: str
    split: str
    clips: PositiveInt


class EvaluateSettings(Settings):
    tier: str
    sets: tuple[EvaluationSet, ...]
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


def find_recipe(name: str) -> Path:
    """A recipe file by path, or by the name of one that ships with the package."""
    for path in (Path(name), RECIPES / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    raise RecipeError(f"no recipe {name!r}: give a YAML file, or one of {', '.join(shipped)}")


def load_recipe(name: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """Parse a recipe file with `section.key=value` overrides.

    Raises RecipeError with every fault at once: unknown keys (and the nearest known one), wrong types,
    values out of range.
    """
    path = find_recipe(name)
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} must hold a mapping of settings")
    for override in overrides:
        _set(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{path}:\n" + "\n".join(map(_fault, error.errors()))) from error


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not (equals and key):
        raise RecipeError(f"an override is section.key=value, not {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: {text!r} is no YAML value") from error
    *parents, leaf = key.split(".")
    node: Any = tree
    for parent in parents:
        place = _place(node, parent, override)
        if isinstance(node, dict) and node.get(place) is None:
            node[place] = {}
        node = node[place]
    node[_place(node, leaf, override)] = value


def _place(node: Any, part: str, override: str) -> str | int:
    """The key of a section, or the number of a list's entry, that a part of an override's key names."""
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise RecipeError(f"override {override!r}: there is no section around {part!r}")
    if not (part.isdigit() and int(part) < len(node)):
        raise RecipeError(
            f"override {override!r}: {part!r} is none of the list's entries 0 to {len(node) - 1}"
        )
    return int(part)


def _fault(error: Any) -> str:
    location = ".".join(map(str, error["loc"])) or "recipe"
    if error["type"] != "extra_forbidden":
        return f"  {location}: {error['msg']}"
    known = _keys_beside(error["loc"])
    nearest = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
    return f"  {location}: unknown key; {hint}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that an unknown key was given to."""
    model: Any = Recipe
    for part in location[:-1]:
        fields = getattr(model, "model_fields", {})
        if part in fields:
            model = _model_in(fields[part].annotation)
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The Settings class inside an annotation such as `tuple[Stage, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_in(inner)) is not None:
            return found
    return None
