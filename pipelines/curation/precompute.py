"""Pass 2: kept clips → latents, flow, image features and token ids, in shards."""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from modeling.image_features import image_tokens
from modeling.latents import encode_pixels
from modeling.text import appearance_ids, motion_ids
from pipelines.curation import clip_table
from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.curation.flow import latent_flow, network_flow
from pipelines.curation.manifest import (
    caption_hash,
    precompute_fingerprint,
    shard_identity,
    shards_of,
    unit_manifest,
    wanted_rows,
    write_manifest,
)
from pipelines.curation.reach import reach_of
from pipelines.curation.remote import SharedFiles
from pipelines.curation.shards import ShardRows, ShardWriter, array_shapes, encode_row
from pipelines.curation.verdicts import FAILED, reason
from pipelines.curation.video import read_clip, read_clip_and_flow
from pipelines.layout import RunLayout
from pipelines.models import (
    load_flow_network,
    load_image_encoder,
    load_tokenizer,
    load_vae,
    resolve_model,
)
from pipelines.recipe import Bucket, Recipe, parse_bucket

CLIPS_AHEAD = 4

Row = dict[str, Any]


# ---------------------------------------------------------------- networks


class Networks:
    """The frozen networks and tokenizers of pass 2, on the GPU if there is one; loaded when needed."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.settings = recipe.curation.precompute
        self.stamp = precompute_fingerprint(recipe)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(self.settings.threads)
        # As convolutions are by default. It moves latents by 0.0006 (emulated; embedded VAE, real clips):
        # twice what float16 does, in which they are kept, and a sixtieth of their own std.
        torch.backends.cuda.matmul.fp32_precision = "tf32"

    @cached_property
    def vae(self) -> Any:
        vae = load_vae(self.recipe.models.text_to_image).to(self.device)
        # On a CPU 1.6 times as fast as the default layout.
        return vae.to(memory_format=torch.channels_last)

    @cached_property
    def image_encoder(self) -> Any:
        return load_image_encoder(self.recipe.models.image_encoder).to(self.device)

    @cached_property
    def flow_network(self) -> Any:
        """The recipe's optical flow network; None: the decoders estimate flow."""
        path = self.recipe.models.flow
        return load_flow_network(path, self.device) if path else None

    @cached_property
    def tokenizers(self) -> tuple[Any, Any]:
        """CLIP's and T5's."""
        models = self.recipe.models
        clip = load_tokenizer(resolve_model(models.text_to_image) / "tokenizer")
        return clip, load_tokenizer(resolve_model(models.motion_encoder))

    @property
    def metadata(self) -> dict[str, Any]:
        identity = shard_identity(self.recipe, self.stamp)
        return {**identity, "scaling_factor": self.vae.config.scaling_factor}

    @cached_property
    def downsampling(self) -> int:
        """Pixels of the frame per latent pixel."""
        config = resolve_model(self.recipe.models.text_to_image) / "vae" / "config.json"
        return int(2 ** (len(json.loads(config.read_text())["block_out_channels"]) - 1))

    def latent_size(self, bucket: Bucket) -> tuple[int, int]:
        return bucket.height // self.downsampling, bucket.width // self.downsampling

    def encode(self, clips: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """clips (N, T, H, W, 3) uint8 → latents and image features of each.

        The networks always see `batch_clips` clips, the last ones black if need be: results in float16
        depend on the size of the batch, and a clip's must not depend on its neighbours.
        """
        count, frames = clips.shape[:2]
        padded = np.zeros((self.settings.batch_clips, *clips.shape[1:]), np.uint8)
        padded[:count] = clips
        pixels = (
            torch.from_numpy(padded).to(self.device).permute(0, 1, 4, 2, 3).float() / 255
        )  # (B, T, 3, H, W)
        images = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (BT, 3, H, W)
        mean, std = encode_pixels(self.vae, images)  # (BT, C, h, w)
        features = image_tokens(self.image_encoder, pixels[:, 0], self.settings.image_tokens)
        for i in range(count):
            part = slice(i * frames, (i + 1) * frames)
            yield self._flow(pixels[i]) | {
                "latents_mean": mean[part].transpose(0, 1).half().cpu().numpy(),  # (C, T, h, w)
                "latents_std": std[part].transpose(0, 1).half().cpu().numpy(),
                "image_features": features[i].half().cpu().numpy(),
            }

    def _flow(self, frames: torch.Tensor) -> dict[str, np.ndarray]:
        """Flow of a clip (T, 3, H, W), if a network of the recipe estimates it."""
        if self.flow_network is None:
            return {}
        size = frames.shape[2] // self.downsampling, frames.shape[3] // self.downsampling
        flow, valid = latent_flow(*network_flow(self.flow_network, frames), *size)
        return {"flow": flow, "flow_valid": valid}

    def token_ids(self, row: Row) -> dict[str, np.ndarray]:
        clip_tokenizer, motion_tokenizer = self.tokenizers
        text = appearance_ids(clip_tokenizer, [row["appearance_caption"]])[0]
        motion = motion_ids(motion_tokenizer, [row["motion_caption"]], self.settings.motion_tokens)[0]
        return {"text_ids": text.numpy().astype(np.int32), "motion_ids": motion.numpy().astype(np.int32)}


# ---------------------------------------------------------------- a unit of work


@dataclass
class Slot:
    """A clip's place in the shard of a bucket: its row, or what is still to be encoded."""

    clip: Row
    row: Row | None = None
    frames: np.ndarray | None = None  # (T, H, W, 3) uint8
    flow: dict[str, np.ndarray] = field(default_factory=dict)  # where decoders estimate it


@dataclass
class BucketRows:
    """Rows of one bucket on their way into its shards, in order of clip ids."""

    bucket: Bucket
    old: ShardRows
    writer: ShardWriter
    slots: list[Slot] = field(default_factory=list)

    @property
    def waiting(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.row is None]


class UnitPrecompute:
    """Makes the shards of one unit of work: reuses rows that are current, computes the others."""

    def __init__(self, unit: int, recipe: Recipe, layout: RunLayout, networks: Networks) -> None:
        self.unit, self.recipe, self.layout, self.networks = unit, recipe, layout, networks
        self.stem = f"{unit:05d}-{networks.stamp[:8]}"
        self.computed = 0
        self.failed: dict[str, tuple[str, str]] = {}  # verdict and reason of clips

    def run(self, decoders: list[DecoderProcess], advance: Callable[[int], None]) -> dict[str, Any]:
        """Write shards, then the manifest; returns counts."""
        clips = wanted_rows(self.layout, self.unit, self.recipe)
        names = sorted({name for clip in clips for name in clip["bucket"].split()})
        buckets = {name: self._bucket_rows(name) for name in names}
        uses = Counter(clip["source_uri"] for clip in clips)
        most_bytes = self.recipe.curation.decode.temporary_gb * 1e9
        with SharedFiles(uses, reach_of(self.recipe.data), most_bytes) as self.files:
            for clip, decoded in self._decoded(clips, buckets, decoders):
                self._place(clip, decoded, buckets)
                advance(1)
        entries = []
        for rows in buckets.values():
            with rows.writer:
                self._encode(rows)
                entries += rows.writer.finish()
        self._record(clips, entries)
        return {"clips": len(clips), "computed": self.computed, "failed": len(self.failed)}

    def _bucket_rows(self, name: str) -> BucketRows:
        settings = self.recipe.curation.precompute
        writer = ShardWriter(
            self.layout,
            name,
            self.stem,
            row_group_clips=settings.row_group_clips,
            shard_bytes=settings.shard_megabytes * 10**6,
        )
        bucket = Bucket.model_validate(parse_bucket(name))
        return BucketRows(bucket, ShardRows(self.layout, name, self.stem, self.networks.stamp), writer)

    def _decoded(
        self, clips: list[Row], buckets: dict[str, BucketRows], decoders: list[DecoderProcess]
    ) -> Iterator[tuple[Row, dict[str, Slot]]]:
        """Each clip with a slot per bucket, in order; decoders work some clips ahead of the networks."""
        free = deque(decoders)
        with ThreadPoolExecutor(len(decoders)) as pool:
            ahead: deque[tuple[Row, dict[str, Slot], Future[None] | None]] = deque()
            for clip in clips:
                slots = {
                    name: Slot(clip, buckets[name].old.take(clip["clip_id"], clip["source_uri"]))
                    for name in clip["bucket"].split()
                }
                missing = {name: slot for name, slot in slots.items() if slot.row is None}
                work = pool.submit(self._decode, clip, missing, free) if missing else None
                ahead.append((clip, slots, work))
                if len(ahead) > CLIPS_AHEAD * len(decoders):
                    yield _done(ahead.popleft())
            while ahead:
                yield _done(ahead.popleft())

    def _decode(self, clip: Row, missing: dict[str, Slot], free: "deque[DecoderProcess]") -> None:
        decoder = free.popleft()  # there are as many as threads
        buckets = tuple(Bucket.model_validate(parse_bucket(name)) for name in missing)
        sizes = tuple(self.networks.latent_size(bucket) for bucket in buckets)
        try:
            with self.files.local(clip["source_uri"]) as path:
                span = (path, clip["start_seconds"], self.recipe.curation.fps, buckets)
                if self.recipe.models.flow:
                    parts: list[tuple[np.ndarray, dict[str, np.ndarray]]]
                    parts = [(frames, {}) for frames in decoder.call(read_clip, *span)]
                else:
                    parts = [
                        (frames, {"flow": flow, "flow_valid": valid})
                        for frames, flow, valid in decoder.call(read_clip_and_flow, *span, sizes)
                    ]
        except DecoderError as error:
            why = reason("changed", error.reason) if error.verdict == FAILED else error.reason
            self.failed[clip["clip_id"]] = (error.verdict, why)
            return
        finally:
            free.append(decoder)
        self.computed += 1
        for slot, (frames, flow) in zip(missing.values(), parts, strict=True):
            slot.frames, slot.flow = frames, flow

    def _place(self, clip: Row, slots: dict[str, Slot], buckets: dict[str, BucketRows]) -> None:
        if clip["clip_id"] in self.failed:
            return
        for name, slot in slots.items():
            rows = buckets[name]
            if slot.row is not None:
                slot.row = self._with_captions(clip, slot.row)
            rows.slots.append(slot)
            settings = self.recipe.curation.precompute
            # Rows that are taken over do not pile up behind one that waits for its batch to fill.
            full = len(rows.slots) >= settings.row_group_clips
            if full or len(rows.waiting) == settings.batch_clips or not rows.waiting:
                self._encode(rows)

    def _with_captions(self, clip: Row, row: Row) -> Row:
        """A row of an older shard; other captions need other token ids and nothing else."""
        if row["caption_hash"] == caption_hash(clip):
            return row
        ids = {name: values.tobytes() for name, values in self.networks.token_ids(clip).items()}
        return row | ids | {"caption_hash": caption_hash(clip)}

    def _encode(self, rows: BucketRows) -> None:
        """Compute what the waiting slots lack and hand all slots to the writer."""
        waiting = rows.waiting
        if waiting:
            clips = np.stack([slot.frames for slot in waiting if slot.frames is not None])
            for slot, encoded in zip(waiting, self.networks.encode(clips), strict=True):
                arrays = slot.flow | encoded | self.networks.token_ids(slot.clip)
                slot.row = encode_row(
                    slot.clip["clip_id"], slot.clip["source_uri"], arrays, caption_hash(slot.clip)
                )
                shapes = {"arrays": array_shapes(arrays)}
                rows.old.metadata = self.networks.metadata | {"bucket": str(rows.bucket)} | shapes
        for slot in rows.slots:
            assert slot.row is not None
            assert rows.old.metadata is not None
            rows.writer.add(slot.row, rows.old.metadata)
        rows.slots.clear()

    def _record(self, clips: list[Row], entries: list[dict[str, Any]]) -> None:
        """Enter the shards in the manifest, then remove parts that no longer exist under these settings."""
        manifest = unit_manifest(self.unit, clips, self.networks.stamp, entries, self.failed)
        write_manifest(self.layout, self.unit, manifest)
        current = {self.layout.data / entry["file"] for entry in entries}
        for old in shards_of(self.layout, self.stem):
            if old not in current:
                old.unlink()
        if self.failed:
            clip_table.mark_failed(self.layout, self.unit, self.failed)


def _done(item: tuple[Row, dict[str, Slot], "Future[None] | None"]) -> tuple[Row, dict[str, Slot]]:
    clip, slots, work = item
    if work is not None:
        work.result()
    return clip, slots
