"""Where clips come from, and what becomes of them."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from pipelines.recipe.base import BucketName, Fraction, Place, Settings


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


Network = Annotated[str, AfterValidator(_network)]


class Columns(Settings):
    """Which column of the source table holds what; the defaults are WebVid's names."""

    source_id: str = "videoid"
    uri: str = "contentUrl"
    caption: str = "name"
    split: str | None = Field(None, description="without one, every source is `train`")
    license: str | None = None
    labels: tuple[str, ...] = Field((), description="extra columns kept as JSON in `labels`")


class DataSettings(Settings):
    table: Place = Field(description="CSV, JSONL or Parquet table, or a folder of videos with .txt captions")
    root: Place | None = Field(
        None,
        description="folder that paths of the table are relative to and may not leave; default: the table's",
    )
    more_roots: tuple[str, ...] = Field(
        (), description="other folders, and s3:// or gs:// addresses, below which rows may name files"
    )
    private_networks: tuple[Network, ...] = Field(
        (),
        description="networks or IP addresses, such as 10.0.0.0/8, that rows may fetch from though they are "
        "not public",
    )
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
    motion: Literal["split", "whole"] = Field(
        "split", description="what the motion caption is: what changes over time, or the whole caption"
    )
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
    motion_tokens: PositiveInt = Field(64, description="ids kept of a motion caption, end token included")
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
