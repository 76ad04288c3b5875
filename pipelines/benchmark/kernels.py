"""The kernels of curation, bare: calls of the libraries that do the work, one after another in one process.

On the same files, at the same sizes and with the same threads as in the pipeline, and with the same results.
"""

import itertools
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.curation.clip_table import read_clips
from pipelines.curation.image_scores import ImageScorer, warm_up
from pipelines.curation.manifest import list_shards, wanted_rows
from pipelines.curation.precompute import Networks
from pipelines.curation.run import fixed_units
from pipelines.curation.shards import decode_row, shard_metadata
from pipelines.curation.shots import CUT_SIDE_PIXELS
from pipelines.curation.video import Video, clip_times, crop_to, decode_size, open_video, shrunk
from pipelines.layout import RunLayout
from pipelines.recipe import Bucket, Recipe, parse_bucket

SCORE_KERNELS = ("decode", "shots", "text", "image scores", "motion")
PRECOMPUTE_KERNELS = ("decode spans", "flow", "VAE", "image features")


@dataclass(frozen=True)
class Measured:
    """Number of source files, seconds by kernel, and how the results compare with the pipeline's."""

    sources: int
    seconds: dict[str, float]
    alike: dict[str, str]


def stay_on(core: int | None) -> None:
    """Hold this process and the threads that it will start on one core, where the system can."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def measure_kernels(recipe: Recipe) -> Measured:
    """Run the kernels on what a recipe's run directory has."""
    kernels = BareKernels(recipe)
    kernels.run()
    return Measured(len(kernels.chosen), kernels.seconds, kernels.alike())


class BareKernels:
    """The libraries' calls for every file that the pipeline could read, once for all its copies."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.layout = recipe, RunLayout.of(recipe)
        self.networks = Networks(recipe)
        self.seconds = dict.fromkeys((*SCORE_KERNELS, *PRECOMPUTE_KERNELS), 0.0)
        self.cuts: dict[str, list[float]] = {}
        self.latents: dict[tuple[str, str], np.ndarray] = {}
        self._batches: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)

    def run(self) -> None:
        self._load()
        for source, clips in self.clips.items():
            self._score(source, clips)
        for row in self.wanted:
            self._precompute(row)
        for bucket in list(self._batches):
            self._encode(bucket)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return read_clips(self.layout, verdict=None).to_pylist()

    @cached_property
    def chosen(self) -> set[str]:
        """One source id of every file."""
        return set({row["source_uri"]: row["source_id"] for row in self.rows}.values())

    @cached_property
    def clips(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the clip table by source, of those that have clips."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.rows:
            if row["clip_id"] is not None and row["source_id"] in self.chosen:
                found[row["source_id"]].append(row)
        return dict(found)

    @cached_property
    def wanted(self) -> list[dict[str, Any]]:
        units = range(fixed_units(self.layout, self.recipe))
        rows = (row for unit in units for row in wanted_rows(self.layout, unit, self.recipe))
        return [row for row in rows if row["source_id"] in self.chosen]

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
                    if (key := (row["clip_id"], bucket)) in self.latents:
                        yield key, decode_row(row, metadata)["latents_mean"].float().numpy()

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
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        from pipelines.curation.shots import LEAST_CHANGE
        from pipelines.curation.text import MARK_SIDE_PIXELS, TEXT_SIDE_PIXELS, text_detector

        video = open_video(clips[0]["source_uri"])
        width, height = shrunk(video.width, video.height, self.recipe.curation.decode.score_short_side_pixels)
        scored = [clip for clip in clips if clip["motion_score"] is not None]
        shown_at = [video.shown_at(self._times(clip)) for clip in scored]
        with self._timed("decode"):
            small, frames = _decode(video, {int(index) for part in shown_at for index in part}, width, height)
        detector = AdaptiveDetector(min_content_val=LEAST_CHANGE)
        cuts = []
        with self._timed("shots"):
            clock = FrameTimecode(0, fps=video.fps)
            for index, frame in enumerate(small):
                timecode = FrameTimecode(index, fps=clock)
                cuts += detector.process_frame(timecode, frame)
            cuts += detector.post_process(timecode)
        self.cuts[source] = [0.0, *(float(video.starts_seconds[int(cut.frame_num)]) for cut in cuts)]
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        for clip, indices in zip(scored, shown_at, strict=True):
            shown = [frames[index] for index in indices]
            if self.recipe.curation.filters.reads_text:
                with self._timed("text"):
                    total = np.zeros(shown[0].shape, np.float32)
                    for frame in shown:
                        cv2.accumulate(frame, total)
                    mean = (total / len(shown)).astype(np.uint8)
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

    def _times(self, clip: dict[str, Any]) -> np.ndarray:
        fps = self.recipe.curation.fps
        return clip_times(
            clip["start_seconds"], round((clip["end_seconds"] - clip["start_seconds"]) * fps), fps
        )

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


def _decode(
    video: Video, wanted: set[int], width: int, height: int
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """(every frame as the shot detector wants it, BGR; the wanted ones at scoring size, RGB)."""
    import av
    from av.video.reformatter import VideoReformatter

    one, other = VideoReformatter(), VideoReformatter()
    small_size = shrunk(video.width, video.height, CUT_SIDE_PIXELS)
    small, frames = [], {}
    with av.open(video.path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            little = one.reformat(frame, *small_size, "bgr24", interpolation="FAST_BILINEAR", threads=1)
            small.append(little.to_ndarray())
            if index in wanted:
                seen = other.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1)
                frames[index] = seen.to_ndarray()
    return small, frames
