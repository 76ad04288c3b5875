"""What a training will need, before anything starts: operations, memory of a GPU, GPU-hours, money.

Everything is counted on the meta device from the models' config.json: no weights are read, nothing is
allocated, no GPU is needed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from modeling.unet import FactorizedUNet
from pipelines.hardware import MFU, Gpu, HardwareError
from pipelines.model_shapes import image_feature_shape, latent_shape, text_token_count
from pipelines.models import motion_encoder_class, resolve_model
from pipelines.planning.cost import (
    CORE_SECONDS_FROM,
    CORE_SECONDS_PER_SOURCE,
    ClipCounts,
    count_clips,
    curation_cost,
)
from pipelines.planning.step_memory import (
    ZERO_LEVELS,
    Elements,
    PassPeaks,
    Savings,
    Shapes,
    StepMemory,
    pass_peaks,
    step_memory,
)
from pipelines.preflight import PreflightError, plan_faults
from pipelines.progress import track
from pipelines.recipe import Bucket, Recipe, RecipeError, StageSettings, TrainSettings
from pipelines.training.flops import clip_flop
from pipelines.training.stage import meta_unet, noise_schedule, select_parts
from pipelines.training.stream import bucket_turns

# Of a GPU's memory as sold; CUDA itself, NCCL, cuDNN's workspaces and gaps between blocks take the rest.
USABLE_MEMORY = 0.9
# With activation checkpointing the forward pass runs twice: a third of a step where all is trained, more
# where little is. MFU does not count the second time as work done.
CHECKPOINTED_WORK = 4 / 3


@dataclass(frozen=True)
class Assumptions:
    """What a plan takes for granted."""

    gpu: Gpu
    gpus: int
    mfu: float = MFU
    price_per_gpu_hour: float | None = None
    core_seconds_per_source: float = CORE_SECONDS_PER_SOURCE
    clips: int | None = None

    def gpu_hours(self, flop: float, precision: str) -> float:
        return flop / (self.rate(precision) * self.mfu) / 3600

    def money(self, gpu_hours: float) -> float | None:
        return None if self.price_per_gpu_hour is None else gpu_hours * self.price_per_gpu_hour

    def rate(self, precision: str) -> float:
        """FLOP/s of one GPU at its peak. Raises HardwareError for what it has no units for."""
        rate = self.gpu.flop_per_second.get(precision)
        if rate is None:
            has = ", ".join(self.gpu.flop_per_second)
            raise HardwareError(f"train.precision={precision}: {self.gpu.name} has units for {has} only")
        return rate


@dataclass(frozen=True)
class Network:
    """The video UNet of a recipe by its configuration, and the frozen networks beside it in training."""

    unet: FactorizedUNet  # on the meta device
    encoders: dict[str, dict[str, int]]  # parameters and bytes by name

    @classmethod
    def of(cls, recipe: Recipe) -> "Network":
        return cls(meta_unet(recipe), frozen_encoders(recipe))

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.unet.config)

    @property
    def parameters(self) -> dict[str, int]:
        return {name: parameter.numel() for name, parameter in self.unet.named_parameters()}

    @property
    def encoder_bytes(self) -> int:
        return sum(encoder["bytes"] for encoder in self.encoders.values())


def plan_recipe(recipe: Recipe, assumptions: Assumptions) -> dict[str, Any]:
    """Parameters, operations, memory at every ZeRO level, hours and data of a recipe; fits into JSON.

    recipe.train.workers is not looked at: assumptions.gpus is. Raises PreflightError for configurations that
    are missing or do not fit together, RecipeError without stages or for a batch that the GPUs cannot share,
    HardwareError for a GPU without units for the recipe's precision.
    """
    settings = _shared_settings(recipe, assumptions.gpus)
    rate = assumptions.rate(settings.precision)
    if faults := list(plan_faults(recipe)):
        raise PreflightError(faults)
    network = Network.of(recipe)
    counts = count_clips(recipe, assumptions.clips)
    buckets = {stage.name: len(recipe.curation.tiers[stage.tier]) for stage in settings.stages}
    seen: dict[Any, tuple[int, PassPeaks]] = {}
    stages = []
    with track(sum(buckets.values()), "plan: buckets") as progress:
        for stage in settings.stages:
            counter = Counter(recipe, settings, network, assumptions, seen)
            stages.append(counter.stage(stage, shares(recipe, stage, counts)))
            progress.advance(buckets[stage.name])
    return {
        "recipe": recipe.name,
        "gpu": {**asdict(assumptions.gpu), "gpus": assumptions.gpus, "peak_flop_per_second": rate},
        "precision": settings.precision,
        "zero_stage": settings.zero_stage,
        "global_batch_clips": settings.global_batch_clips,
        "savings": asdict(Savings.of(settings)),
        "assumed": {
            "mfu": assumptions.mfu,
            "usable_memory": USABLE_MEMORY,
            "price_per_gpu_hour": assumptions.price_per_gpu_hour,
            "core_seconds_per_source": assumptions.core_seconds_per_source,
            "core_seconds_from": CORE_SECONDS_FROM
            if assumptions.core_seconds_per_source == CORE_SECONDS_PER_SOURCE
            else "--core-seconds-per-source",
        },
        "parameters": {
            "video_unet": sum(network.parameters.values()),
            "image_unet": sum(n for name, n in network.parameters.items() if name.startswith("image.")),
            "encoders": network.encoders,
        },
        "stages": stages,
        "training": _training_total(stages, assumptions),
        "data": _data(recipe, counts, assumptions),
    }


def _shared_settings(recipe: Recipe, gpus: int) -> TrainSettings:
    if recipe.train is None:
        raise RecipeError(f"recipe {recipe.name!r} has no section `train`: there is nothing to plan")
    clips = recipe.train.global_batch_clips
    if clips % gpus:
        possible = ", ".join(str(n) for n in range(1, clips + 1) if clips % n == 0)
        raise RecipeError(
            f"--gpus {gpus}: a step's train.global_batch_clips={clips} clips cannot be divided among {gpus} "
            f"GPUs; give one of {possible}, or a larger train.global_batch_clips"
        )
    micro = recipe.train.micro_batch_clips
    if micro is not None and clips // gpus % micro:
        raise RecipeError(
            f"--gpus {gpus}: the {clips // gpus} clips of each GPU cannot be divided by "
            f"train.micro_batch_clips={micro}"
        )
    return recipe.train


def shares(recipe: Recipe, stage: StageSettings, counts: ClipCounts) -> dict[str, float]:
    """Share of a stage's steps that each bucket gets: as the stream takes turns; even if no clip is known."""
    names = [str(bucket) for bucket in recipe.curation.tiers[stage.tier]]
    known = {name: counts.trained[name] for name in names if counts.trained and counts.trained.get(name)}
    if not known or recipe.train is None:
        return {name: 1 / len(names) for name in names}
    turns = bucket_turns(known, recipe.train.global_batch_clips)
    return {name: turns.get(name, 0) / sum(turns.values()) for name in names}


def frozen_encoders(recipe: Recipe) -> dict[str, dict[str, int]]:
    """Parameters and bytes of the encoders that every GPU holds in training, in the dtype of their files."""
    from transformers import CLIPTextModel

    folders = {"text_encoder": (resolve_model(recipe.models.text_to_image) / "text_encoder", CLIPTextModel)}
    if recipe.model.motion_encoder:
        path = recipe.models.motion_encoder
        folders["motion_encoder"] = (resolve_model(path), motion_encoder_class(path))
    sizes = {}
    for name, (folder, kind) in folders.items():
        config = kind.config_class.from_pretrained(folder)
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            parameters = sum(parameter.numel() for parameter in kind(config).parameters())
        # Files that do not say their dtype are from before there was another than fp32.
        dtype = config.dtype or torch.float32
        sizes[name] = {"parameters": parameters, "bytes": parameters * dtype.itemsize}
    return sizes


def input_shapes(recipe: Recipe, unet: FactorizedUNet, bucket: Bucket, clips: int) -> Shapes:
    """Of the UNet's inputs for a batch; motion captions as long as shards keep them, which few are."""
    channels, frames, height, width = latent_shape(recipe, bucket)
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (clips, channels, frames, height, width),
        "text_tokens": (clips, text_token_count(recipe), unet.image.config.cross_attention_dim),
        "image_latents": (clips, channels, height, width),
        "image_tokens": (clips, *image_feature_shape(recipe)),
        "fps": (clips,),
        "motion_score": (clips,),
    }
    if recipe.model.motion_encoder:
        shapes["motion_tokens"] = (clips, recipe.curation.precompute.motion_tokens, unet.config.motion_dim)
    return shapes


# ---------------------------------------------------------------- stages


@dataclass(frozen=True)
class Counter:
    """Counts the stages of one recipe; what two stages or buckets share is counted once."""

    recipe: Recipe
    settings: TrainSettings
    network: Network
    assumptions: Assumptions
    seen: dict[Any, tuple[int, PassPeaks]]

    def stage(self, stage: StageSettings, shares: Mapping[str, float]) -> dict[str, Any]:
        trained = select_parts(self.network.unet, stage, has_motion_scores=True)
        sizes = self.network.parameters
        elements = Elements(
            total=sum(sizes.values()),
            trained=sum(sizes[name] for name in trained),
            bytes_each=self.dtype.itemsize,
        )
        buckets = []
        for bucket in self.recipe.curation.tiers[stage.tier]:
            flop, peaks = self._pass(stage, trained, bucket)
            buckets.append(self._bucket(bucket, shares[str(bucket)], flop, peaks, elements))
        flop = stage.steps * sum(bucket["share"] * bucket["step_flop"] for bucket in buckets)
        gpu_hours = self.gpu_hours(flop)
        return {
            "stage": stage.name,
            "tier": stage.tier,
            "steps": stage.steps,
            "trained_parameters": elements.trained,
            "frozen_parameters": elements.total - elements.trained,
            "flop": flop,
            "gpu_hours": gpu_hours,
            "hours": gpu_hours / self.assumptions.gpus,
            "money": self.assumptions.money(gpu_hours),
            "buckets": buckets,
        }

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.settings.precision == "bf16" else torch.float32

    def gpu_hours(self, flop: float) -> float:
        work = flop * CHECKPOINTED_WORK if self.settings.activation_checkpointing else flop
        return self.assumptions.gpu_hours(work, self.settings.precision)

    @property
    def clips_per_gpu(self) -> int:
        return self.settings.global_batch_clips // self.assumptions.gpus

    @property
    def clips_per_pass(self) -> int:
        return self.settings.micro_batch_clips or self.clips_per_gpu

    def _pass(self, stage: StageSettings, trained: list[str], bucket: Bucket) -> tuple[int, PassPeaks]:
        """Operations of one clip, and the memory of what a GPU takes in one pass."""
        # A clip on its side costs the same.
        key = tuple(trained), stage.predict_flow, bucket.frames, frozenset((bucket.height, bucket.width))
        if key not in self.seen:
            unet = self.network.unet
            one = dict(input_shapes(self.recipe, unet, bucket, 1))
            flop = clip_flop(self.network.config, set(trained), one, predict_flow=stage.predict_flow)
            peaks = pass_peaks(
                self.network.config,
                set(trained),
                input_shapes(self.recipe, unet, bucket, self.clips_per_pass),
                flow_weight=stage.flow_weight,
                schedule=noise_schedule(stage),
                dtype=self.dtype,
                checkpointing=self.settings.activation_checkpointing,
            )
            self.seen[key] = flop, peaks
        return self.seen[key]

    def _bucket(
        self, bucket: Bucket, share: float, flop: int, peaks: PassPeaks, elements: Elements
    ) -> dict[str, Any]:
        step_flop = flop * self.settings.global_batch_clips
        hours = self.gpu_hours(step_flop) / self.assumptions.gpus
        savings = Savings.of(self.settings)
        levels = [
            step_memory(
                level,
                elements,
                peaks,
                self.assumptions.gpus,
                self.network.encoder_bytes,
                savings,
                micro_batches=self.clips_per_gpu // self.clips_per_pass,
            )
            for level in ZERO_LEVELS
            if not (level == 0 and self.settings.precision == "bf16")  # recipes refuse that
        ]
        return {
            "bucket": str(bucket),
            "share": share,
            "clips_per_gpu": self.clips_per_gpu,
            "clips_per_pass": self.clips_per_pass,
            "clip_flop": flop,
            "step_flop": step_flop,
            "seconds_per_step": hours * 3600,
            "memory": [self._level(level) for level in levels],
        }

    def _level(self, memory: StepMemory) -> dict[str, Any]:
        usable = self.assumptions.gpu.memory_gb * 1e9 * USABLE_MEMORY
        return {**asdict(memory), "peak": memory.peak, "fits": memory.peak <= usable}


# ---------------------------------------------------------------- the whole


def _training_total(stages: list[dict[str, Any]], assumptions: Assumptions) -> dict[str, Any]:
    gpu_hours = sum(stage["gpu_hours"] for stage in stages)
    return {
        "flop": sum(stage["flop"] for stage in stages),
        "gpu_hours": gpu_hours,
        "hours": gpu_hours / assumptions.gpus,
        "money": assumptions.money(gpu_hours),
    }


def _data(recipe: Recipe, counts: ClipCounts, assumptions: Assumptions) -> dict[str, Any]:
    """Curation's cost; its networks compute in TF32 where there is such a thing, whatever training does."""
    cost = curation_cost(recipe, counts, assumptions.core_seconds_per_source)
    flop = cost["precompute_flop"]
    precision = "tf32" if "tf32" in assumptions.gpu.flop_per_second else "fp32"
    gpu_hours = None if flop is None else assumptions.gpu_hours(flop, precision)
    return {
        **cost,
        "precompute_precision": precision,
        "precompute_gpu_hours": gpu_hours,
        "money": None if gpu_hours is None else assumptions.money(gpu_hours),
    }
