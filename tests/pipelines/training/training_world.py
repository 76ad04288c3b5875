"""Random tiny models and shards: all that training reads, made in a second."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from pipelines.curation.clip_table import SCHEMA, clips_path, write_table
from pipelines.curation.manifest import precompute_fingerprint, shard_identity
from pipelines.curation.shards import ShardWriter, array_shapes, encode_row
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe, with_absolute_paths
from pipelines.training.checkpoint import CheckpointReader, whole_checkpoints
from pipelines.training.group import Group
from pipelines.training.log import read_log
from pipelines.training.plan import plan_stages
from pipelines.workflow import steps_of, write_recipe

WORDS = ["a", "red", "star", "moves", "left", "right"]
TEXT_TOKENS, MOTION_TOKENS, IMAGE_TOKENS, WIDTH = 8, 6, 4, 16
# What of a step must be equal between two trainings; the other columns are of the clock.
EXACT = ("step", "samples", "loss", "loss_diffusion", "loss_flow", "learning_rate", "grad_norm")


def build_models(folder: Path) -> dict[str, str]:
    """Folders `stable_diffusion`, `clip`, `motion_encoder` as recipes name them."""
    torch.manual_seed(0)
    tower = {
        "projection_dim": WIDTH,
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    tokenizer = _tokenizer(TEXT_TOKENS)
    text = {
        **tower,
        "vocab_size": 16,
        "max_position_embeddings": TEXT_TOKENS,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    clip = CLIPModel(
        CLIPConfig(
            text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=WIDTH
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(clip.config.text_config),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "stable_diffusion")
    clip.save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=16,
            d_model=WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )
    t5.save_pretrained(folder / "motion_encoder")
    _tokenizer(512).save_pretrained(folder / "motion_encoder")
    names = {"text_to_image": "stable_diffusion", "image_encoder": "clip", "motion_encoder": "motion_encoder"}
    return {key: str(folder / name) for key, name in names.items()}


def _tokenizer(length: int) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )


def recipe(run_directory: Path, models: dict[str, str], **train: Any) -> Recipe:
    """Two tiers, one stage unless `train` says otherwise."""
    stage = {"name": "low", "tier": "low", "steps": 12, "learning_rate": 1e-3, "warmup_steps": 4}
    tree = {
        "name": "test",
        "run_directory": str(run_directory),
        "data": {"table": "none.csv"},
        "curation": {
            "fps": 8,
            "tiers": {"low": ["4x32x32"], "high": ["4x64x64", "4x32x64"]},
            "precompute": {"image_tokens": IMAGE_TOKENS},
        },
        "models": models,
        "model": {
            "temporal_head_dim": 8,
            "adapter_tokens": 4,
            "adapter_width": WIDTH,
            "adapter_depth": 1,
            "adapter_head_dim": 8,
            "pixel_attention_head_dim": 8,
            "predict_net_width": 8,
        },
        "train": {
            "workers": 1,
            "cpus_per_worker": 0.5,
            "threads_per_worker": 1,
            "global_batch_clips": 4,
            "ema_half_life_samples": 20,
            "checkpoint_every_steps": 4,
            "stages": [stage],
            **train,
        },
    }
    return Recipe.model_validate(tree)


def write_data(
    recipe: Recipe,
    clips: dict[str, int],
    *,
    validation: int = 4,
    nan_clip: int | None = None,
    named: str = "",
    **metadata: Any,
) -> None:
    """Shards, manifest and clip table.

    clips: number of training clips of each bucket. nan_clip: number of one whose latents are not numbers.
    named: makes other clips.
    metadata: of the shards, in place of what curation writes.
    """
    layout = RunLayout(Path(recipe.run_directory))
    generator = np.random.default_rng(0)
    table, entries = [], []
    for bucket, number in clips.items():
        frames, height, width = map(int, bucket.split("x"))
        latent = (4, frames, height // 4, width // 4)
        writer = ShardWriter(layout, bucket, "00000-test", row_group_clips=4, shard_bytes=2**30)
        with writer:
            for i in range(number + validation):
                clip_id = hashlib.sha256(f"{named}{bucket} {i}".encode()).hexdigest()[:20]
                arrays = {
                    "latents_mean": generator.standard_normal(latent),
                    "latents_std": np.full(latent, 0.1),
                    "flow": generator.standard_normal((2, frames - 1, *latent[2:])),
                    "flow_valid": generator.random((frames - 1, *latent[2:])) > 0.2,
                    "image_features": generator.standard_normal((IMAGE_TOKENS, WIDTH)),
                    "text_ids": np.array([3, 4, 5, 1, 0, 0, 0, 0]),
                    "motion_ids": np.array([6, 7 + i % 2, 1, -1, -1, -1]),
                }
                if i == nan_clip:
                    arrays["latents_mean"][:] = np.nan
                stamp = {**shard_stamp(recipe, bucket), "arrays": array_shapes(arrays), **metadata}
                writer.add(encode_row(clip_id, f"{clip_id}.mp4", arrays, "0"), stamp)
                split = "train" if i < number else "validation"
                row = dict.fromkeys(SCHEMA.names) | {"clip_id": clip_id, "source_id": clip_id, "split": split}
                table.append(row | {"bucket": bucket, "verdict": "kept"})
            entries += writer.finish()
    layout.manifest.mkdir(parents=True)
    (layout.manifest / "00000.json").write_text(json.dumps({"unit": 0, "shards": entries}))
    write_table(clips_path(layout, 0), pa.Table.from_pylist(table, SCHEMA))


def as_curated(recipe: Recipe) -> Path:
    """Leave what `dreamer train` asks for beside the data: the recipe's file, and the record of curation.

    Returns the file, to be given to the command.
    """
    recipe = with_absolute_paths(recipe)
    layout = RunLayout(Path(recipe.run_directory))
    write_recipe(recipe, layout)
    curation = next(iter(steps_of(recipe, layout)))
    record = {"step": "curate", "fingerprint": curation.fingerprint, "seconds": 0, "summary": {}, "files": {}}
    curation.record.write_text(json.dumps(record))
    return layout.recipe


def shard_stamp(recipe: Recipe, bucket: str) -> dict[str, Any]:
    """What curation writes into a shard's metadata."""
    return {"bucket": bucket, **shard_identity(recipe, precompute_fingerprint(recipe))}


def changed(recipe: Recipe, **train: Any) -> Recipe:
    """With other settings of `train`."""
    tree = recipe.model_dump(mode="json")
    tree["train"] |= train
    return Recipe.model_validate(tree)


def losses(folder: Path) -> list[float]:
    """Of every step of a stage's folder."""
    return [line["loss"] for line in read_log(folder / "log.jsonl")]


def assert_same_training(stage: Path, expected: Path) -> None:
    """Losses and averaged weights, bit for bit."""
    assert _exact(stage) == _exact(expected)
    weights, others = ema(stage), ema(expected)
    assert weights.keys() == others.keys()
    assert all(torch.equal(tensor, others[name]) for name, tensor in weights.items())


def _exact(folder: Path) -> list[tuple[Any, ...]]:
    return [tuple(line[column] for column in EXACT) for line in read_log(folder / "log.jsonl")]


def ema(folder: Path) -> dict[str, torch.Tensor]:
    """Averaged weights in the newest checkpoint of a stage's folder."""
    return CheckpointReader(whole_checkpoints(folder / "checkpoints")[-1]).full("ema")


def group_of_one() -> Group:
    """This process as a worker group; DeepSpeed takes no second one in the life of a process."""
    os.environ["LOCAL_RANK"] = "0"  # Ray's worker group sets it
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return Group.current(torch.device("cpu"))


def train_here(recipe: Recipe) -> Path:
    """Train all stages in this process. Returns the last stage's folder."""
    from pipelines.training.worker import train_stages

    plans = plan_stages(recipe)
    train_stages(recipe, plans, group_of_one())
    return plans[-1].folder
