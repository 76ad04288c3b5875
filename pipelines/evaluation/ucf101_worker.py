"""One worker of the UCF101 evaluation: draws videos of classes, and looks at drawn and real ones."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.curation.video import crop_to
from pipelines.evaluation.feature_networks import C3dClasses, I3dFeatures, VideoMaeFeatures, VideoNetwork
from pipelines.evaluation.measure import packed
from pipelines.evaluation.protocol import VIDEO_FRAMES
from pipelines.evaluation.reference import evaluate_settings
from pipelines.evaluation.ucf101_data import chance, read_random_clip
from pipelines.evaluation.ucf101_prompts import PROMPTS
from pipelines.media import read_mp4, write_mp4, write_png
from pipelines.recipe import Recipe
from pipelines.storage import storage_path

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a worker needs to know.

    videos: UCF101's folder. frames: of a drawn video. size: (height, width) that all are compared at.
    """

    recipe: Recipe
    folder: str
    model: str
    videos: str
    frames: int
    size: tuple[int, int]
    given_image: bool


def video_path(folder: Path, item: Row) -> Path:
    return folder / "videos" / item["class"] / f"{item['name']}.mp4"


def image_path(folder: Path, name: str, stem: str) -> Path:
    """First frame of a real clip, at the model's size."""
    return folder / "first_frames" / name / f"{stem}.png"


class Ucf101Worker:
    """Items {"kind": "real", "class", "path"} or {"kind": "drawn", "class", "name"} → rows with features."""

    def __init__(self, plan: Plan) -> None:
        import cv2
        import torch

        settings = evaluate_settings(plan.recipe)
        self.device = "cuda" if settings.gpus_per_worker else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(1)  # parallel by workers; and results that do not depend on the machine
        cv2.setNumThreads(1)
        self.plan, self.folder = plan, storage_path(plan.folder)
        self.decoder = DecoderProcess(plan.recipe.curation.decode)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A Ray Data batch of lists of items (JSON) → their rows (JSON)."""
        return {"rows": [json.dumps(self.work(json.loads(items))) for items in batch["items"]]}

    def work(self, items: Sequence[Row]) -> list[Row]:
        """Rows: the items with `features`, {network: packed}, or with `reason` for a real one without."""
        missing = [i for i in items if i["kind"] == "drawn" and not video_path(self.folder, i).is_file()]
        if missing:
            self._draw(missing)
        return [self._real(item) if item["kind"] == "real" else self._drawn(item) for item in items]

    # ------------------------------------------------------------ drawn

    def _drawn(self, item: Row) -> Row:
        frames, _ = read_mp4(video_path(self.folder, item))
        return item | self._seen(crop_to(frames[:VIDEO_FRAMES], *self.plan.size))

    def _draw(self, items: Sequence[Row]) -> None:
        requests = [self._request(item) for item in items]
        captions = [self.artist.captions(request) for request in requests]
        videos = self.artist.draw(requests, captions, lambda: None)
        for item, video in zip(items, videos, strict=True):
            write_mp4(video_path(self.folder, item), video, self.artist.fps)

    def _request(self, item: Row) -> Any:
        from pipelines.evaluation.prompts import Request

        prompt, seed = PROMPTS[item["class"]], self.plan.recipe.seed
        if self.plan.given_image:
            # All videos of a class have one prompt: what tells their noise apart is in the seed.
            own = int(chance(seed, item["name"]) * 2**31)
            return Request(prompt, image=image_path(self.folder, item["class"], item["name"]), seed=own)
        return Request(prompt, seed=seed + item["number"])

    @cached_property
    def artist(self) -> Any:
        from pipelines.evaluation.prompts import Artist

        artist = Artist(storage_path(self.plan.model), self.plan.recipe).at(None, self.plan.frames)
        if not self.plan.given_image:
            artist.load_text_to_image()
        return artist

    # ------------------------------------------------------------ real

    def _real(self, item: Row) -> Row:
        try:
            frames = self._clip(item, *self.plan.size)
            if self.plan.given_image:
                self._save_first_frame(item)
        except DecoderError as error:
            return item | {"reason": error.reason}
        return item | self._seen(frames)

    def _clip(self, item: Row, height: int, width: int) -> np.ndarray:
        path, start = item["path"], chance(self.plan.recipe.seed, item["path"] + "#start")
        clip: np.ndarray = self.decoder.call(
            read_random_clip,
            str(Path(self.plan.videos) / path),
            VIDEO_FRAMES,
            self.plan.recipe.curation.fps,
            height,
            width,
            start,
        )
        return clip

    def _save_first_frame(self, item: Row) -> None:
        path = image_path(self.folder, item["class"], Path(item["path"]).stem)
        if path.is_file():
            return
        bucket = self.plan.recipe.curation.tiers[evaluate_settings(self.plan.recipe).tier][0]
        frame = self._clip(item, bucket.height, bucket.width)[0]
        write_png(path, frame)

    # ------------------------------------------------------------ both

    def _seen(self, frames: np.ndarray) -> Row:
        return {"features": {name: packed(network.video(frames)) for name, network in self.networks.items()}}

    @cached_property
    def networks(self) -> dict[str, VideoNetwork]:
        files = evaluate_settings(self.plan.recipe).networks
        found: dict[str, VideoNetwork] = {}
        if files.i3d is not None:
            found["i3d"] = I3dFeatures(files.i3d, self.device)
        if files.videomae is not None:
            found["videomae"] = VideoMaeFeatures(files.videomae, self.device)
        if files.c3d is not None:
            found["c3d"] = C3dClasses(files.c3d, self.device)
        return found
