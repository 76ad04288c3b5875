"""Curation's speed against its own speed of light: the same kernels, bare, one after another in one process.

The pipeline runs twice, over the sources once and over several copies of them; what the second takes more
is what a source costs, start-up aside. The kernels are calls of the libraries that do the work, on the same
files at the same sizes with the same threads, and their results are compared with the pipeline's.
"""

import itertools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.cluster import available_cpus
from pipelines.curation.clip_table import read_clips
from pipelines.curation.image_scores import ImageScorer, warm_up
from pipelines.curation.precompute import Networks, wanted_rows
from pipelines.curation.run import curate, fixed_units
from pipelines.curation.shards import decode_row, list_shards, shard_metadata
from pipelines.curation.sources import data_root, read_sources, resolve_uri
from pipelines.curation.video import clip_times, crop_to, decode_size, open_video
from pipelines.layout import RunLayout
from pipelines.progress import track
from pipelines.recipe import Bucket, DataSettings, Recipe, parse_bucket, with_absolute_paths

SCORE_KERNELS = ("decode", "shots", "text", "image scores", "motion")
PRECOMPUTE_KERNELS = ("decode spans", "flow", "VAE", "image features")


@dataclass(frozen=True)
class Run:
    """One run of the pipeline over some copies of the sources."""

    recipe: Recipe
    sources: int
    seconds: float
    stages: dict[str, float]

    @property
    def layout(self) -> RunLayout:
        return RunLayout(Path(self.recipe.run_directory))

    @property
    def start_seconds(self) -> float:
        """What no stage of the pipeline took: Ray's start and end."""
        return self.seconds - sum(self.stages.values())

    @property
    def scored_per_second(self) -> float:
        return self.sources / (self.start_seconds + self.stages["divide"] + self.stages["score"])


def measure_curation(recipe: Recipe, copies: int) -> dict[str, Any]:
    """Seconds a source on one core: of the pipeline's passes and of the bare kernels, and their ratios.

    Near-duplicates are kept, for the copies are such. Raises what `curate` raises.
    """
    recipe = with_absolute_paths(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        once = run_copies(recipe, 1, Path(scratch))
        often = run_copies(recipe, copies, Path(scratch))
        bare = BareKernels(once)
        bare.run()
    more = (often.sources - once.sources) / available_cpus()
    passes = {
        name: {
            "pipeline": round((often.stages[name] - once.stages[name]) / more, 4),
            "bare": round(sum(bare.seconds[kernel] for kernel in kernels) / once.sources, 4),
        }
        for name, kernels in (("score", SCORE_KERNELS), ("precompute", PRECOMPUTE_KERNELS))
    }
    whole = {key: sum(part[key] for part in passes.values()) for key in ("pipeline", "bare")}
    return {
        "cores": available_cpus(),
        "sources": often.sources,
        "scored_per_second": round(often.scored_per_second, 3),
        "start_seconds": round(often.start_seconds, 1),
        "stages": often.stages,
        "core_seconds_per_source": passes | {"both": whole},
        "of_speed_of_light": {
            name: round(part["bare"] / part["pipeline"], 3)
            for name, part in (passes | {"both": whole}).items()
        },
        "kernels": {name: round(seconds / once.sources, 4) for name, seconds in bare.seconds.items()},
        "alike": bare.alike(),
    }


def run_copies(recipe: Recipe, copies: int, scratch: Path) -> Run:
    """Curate a table in which every source of the recipe's stands `copies` times."""
    table = scratch / f"{copies}.jsonl"
    rows = [
        {"videoid": f"{row['source_id']} {copy}", "contentUrl": _path(row, recipe), "name": row["caption"]}
        for row in read_sources(recipe.data)
        for copy in range(copies)
    ]
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    filters = recipe.curation.filters.model_copy(update={"max_phash_distance": None})
    copied = recipe.model_copy(
        update={
            "run_directory": str(scratch / f"run {copies}"),
            "data": DataSettings(table=str(table)),
            "curation": recipe.curation.model_copy(update={"filters": filters}),
        }
    )
    started = time.monotonic()
    summary = curate(copied)
    return Run(copied, len(rows), time.monotonic() - started, summary["seconds"])


def _path(row: dict[str, Any], recipe: Recipe) -> str:
    return resolve_uri(row["source_uri"], data_root(recipe.data))[0]


class BareKernels:
    """The libraries' calls for every source that the pipeline could read, timed by kernel."""

    def __init__(self, run: Run) -> None:
        self.recipe, self.layout = run.recipe, run.layout
        self.networks = Networks(run.recipe)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.cuts: dict[str, list[float]] = {}
        self.latents: dict[tuple[str, str], np.ndarray] = {}
        self._batches: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)

    def run(self) -> None:
        self._load()
        with track(len(self.clips), "benchmark: bare kernels") as step:
            for source, clips in self.clips.items():
                self._score(source, clips)
                step.advance()
            for row in self.wanted:
                self._precompute(row)
        for bucket in list(self._batches):
            self._encode(bucket)

    @cached_property
    def clips(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the clip table by source, of those that have clips."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in read_clips(self.layout, verdict=None).to_pylist():
            if row["clip_id"] is not None:
                found[row["source_id"]].append(row)
        return dict(found)

    @cached_property
    def wanted(self) -> list[dict[str, Any]]:
        units = range(fixed_units(self.layout, self.recipe))
        return [row for unit in units for row in wanted_rows(self.layout, unit, self.recipe)]

    def alike(self) -> dict[str, str]:
        """How the kernels' results compare with the pipeline's."""
        same = sum(
            all(np.abs(np.array(self.cuts[source]) - row["shot_start_seconds"]).min() < 0.01 for row in rows)
            for source, rows in self.clips.items()
        )
        worst = 0.0
        for (clip, bucket), latents in self._shard_latents():
            worst = max(worst, float(np.abs(latents - self.latents[clip, bucket].astype(np.float32)).max()))
        return {
            "sources whose shots begin at the bare cuts": f"{same} of {len(self.clips)}",
            "largest difference of a latent": f"{worst:.4f}",
        }

    def _shard_latents(self) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        for bucket in sorted({bucket for _, bucket in self.latents}):
            for path in list_shards(self.layout, bucket):
                metadata = shard_metadata(path)
                for row in pq.read_table(path, columns=["clip_id", "latents_mean"]).to_pylist():
                    yield (row["clip_id"], bucket), decode_row(row, metadata)["latents_mean"].float().numpy()

    @contextmanager
    def _timed(self, kernel: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[kernel] += time.perf_counter() - started

    def _load(self) -> None:
        """Libraries and networks load now, not within a kernel's time."""
        import cv2

        from pipelines.curation.text import text_detector

        cv2.setNumThreads(1)
        text_detector()
        if (clip := self.recipe.curation.image_scores.clip) is not None:
            warm_up(clip)
        assert self.networks.vae
        assert self.networks.image_encoder

    def _score(self, source: str, clips: list[dict[str, Any]]) -> None:
        import cv2
        import decord
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        from pipelines.curation.shots import LEAST_CHANGE, small_frame
        from pipelines.curation.text import MARK_SIDE_PIXELS, TEXT_SIDE_PIXELS, text_detector

        path = clips[0]["source_uri"]
        video = open_video(path)
        side = self.recipe.curation.decode.score_short_side_pixels
        scale = min(1.0, side / min(video.width, video.height))
        width, height = round(video.width * scale), round(video.height * scale)
        with self._timed("decode"):
            reader = decord.VideoReader(video.path, num_threads=1, width=width, height=height)
            frames = [reader.next().asnumpy() for _ in range(len(video.starts_seconds))]
        detector = AdaptiveDetector(min_content_val=LEAST_CHANGE)
        cuts = []
        with self._timed("shots"):
            for index, frame in enumerate(frames):
                timecode = FrameTimecode(index, fps=video.fps)
                bgr = cv2.cvtColor(small_frame(frame), cv2.COLOR_RGB2BGR)
                cuts += detector.process_frame(timecode, bgr)
            cuts += detector.post_process(timecode)
        self.cuts[source] = [0.0, *(float(video.starts_seconds[int(cut.frame_num)]) for cut in cuts)]
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        for clip in clips:
            if clip["motion_score"] is None:
                continue
            length = round((clip["end_seconds"] - clip["start_seconds"]) * self.recipe.curation.fps)
            times = clip_times(clip["start_seconds"], length, self.recipe.curation.fps)
            shown = [frames[index] for index in video.shown_at(times)]
            if self.recipe.curation.filters.reads_text:
                with self._timed("text"):
                    mean = np.mean(shown, axis=0).astype(np.uint8)
                    middle = shown[len(shown) // 2]
                    for picture, pixels in ((middle, TEXT_SIDE_PIXELS), (mean, MARK_SIDE_PIXELS)):
                        share = pixels / min(width, height)
                        seen = cv2.resize(picture, None, fx=share, fy=share)
                        text_detector()(np.ascontiguousarray(seen[:, :, ::-1]))
            if (clip_folder := self.recipe.curation.image_scores.clip) is not None:
                with self._timed("image scores"):
                    ImageScorer(clip_folder, clip["caption"]).scores(shown[len(shown) // 2])
            with self._timed("motion"):
                grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in shown]
                for one, two in itertools.pairwise(grey):
                    flow.calc(one, two, None)

    def _precompute(self, row: dict[str, Any]) -> None:
        import cv2
        import decord

        names = row["bucket"].split()
        buckets = tuple(Bucket.model_validate(parse_bucket(name)) for name in names)
        video = open_video(row["source_uri"])
        width, height = decode_size(video.width, video.height, buckets)
        longest = max(bucket.frames for bucket in buckets)
        indices = video.shown_at(clip_times(row["start_seconds"], longest, self.recipe.curation.fps))
        with self._timed("decode spans"):
            reader = decord.VideoReader(video.path, num_threads=1, width=width, height=height)
            key = max(key for key in reader.get_key_indices() if key <= indices[0])
            reader.seek(key)
            read = {index: reader.next() for index in range(key, int(indices[-1]) + 1)}
            stack = np.stack([read[int(index)].asnumpy() for index in indices])
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        flow.setFinestScale(1)
        with self._timed("flow"):
            grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in stack]
            for one, two in itertools.pairwise(grey):
                flow.calc(one, two, None)
                flow.calc(two, one, None)
        for name, bucket in zip(names, buckets, strict=True):
            fitted = crop_to(stack[: bucket.frames], bucket.height, bucket.width)
            self._batches[name].append((row["clip_id"], fitted))
            if len(self._batches[name]) == self.recipe.curation.precompute.batch_clips:
                self._encode(name)

    def _encode(self, bucket: str) -> None:
        """The VAE and CLIP on a batch of clips, as the pipeline's batches are."""
        import torch

        from modeling.image_features import image_tokens

        batch = self._batches.pop(bucket)
        pixels = (
            torch.from_numpy(np.stack([frames for _, frames in batch])).permute(0, 1, 4, 2, 3).float() / 255
        )
        images = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (BT, 3, H, W)
        vae = self.networks.vae
        with self._timed("VAE"), torch.no_grad():
            mean = vae.encode(2 * images - 1).latent_dist.mean * vae.config.scaling_factor  # (BT, C, h, w)
        with self._timed("image features"):
            image_tokens(
                self.networks.image_encoder, pixels[:, 0], self.recipe.curation.precompute.image_tokens
            )
        for (clip, _), latents in zip(batch, mean.unflatten(0, pixels.shape[:2]), strict=True):
            self.latents[clip, bucket] = latents.transpose(0, 1).half().numpy()
