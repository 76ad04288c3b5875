"""`dreamer evaluate`: held-out clips → drawn videos → measures → metrics, as one Ray Data stream."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pipelines.cluster import start_ray
from pipelines.evaluation.feature_networks import (
    FeatureNetworkError,
    classifier_classes,
    fetch_networks,
    network_notes,
)
from pipelines.evaluation.gallery import write_gallery
from pipelines.evaluation.measure import (
    Measurer,
    Networks,
    conditioning_image,
    image_path,
    variants_of,
    video_path,
    vocabulary_of,
)
from pipelines.evaluation.pool import pool_rows
from pipelines.evaluation.protocol import few_clips_faults, few_frames_faults
from pipelines.evaluation.reference import (
    EvaluationClip,
    EvaluationError,
    ReferenceReader,
    clip_from_json,
    evaluate_settings,
    read_evaluation_clips,
    select_clips,
    write_clips,
)
from pipelines.evaluation.summary import Setting, as_json, flat, summarise
from pipelines.evaluation.tracking import log_evaluation
from pipelines.evaluation.watermark import read_mark
from pipelines.files import write_json, write_text
from pipelines.fingerprint import fingerprint, source_fingerprint
from pipelines.layout import RunLayout
from pipelines.media import write_mp4, write_png
from pipelines.models import weights_sha256
from pipelines.progress import track
from pipelines.recipe import Recipe, with_absolute_paths
from pipelines.storage import remove_tree, storage_path

Row = dict[str, Any]
REAL, UNTRAINED = "ground_truth", "untrained"


@dataclass(frozen=True)
class Plan:
    """What a worker needs to know. model: pipeline folder; None: nothing is drawn, only measured.

    keep: videos that are already there are of this very model and recipe.
    """

    recipe: Recipe
    folder: str
    model: str | None
    networks: Networks
    vocabulary: tuple[str, ...]
    keep: bool

    @property
    def device(self) -> str:
        return "cuda" if evaluate_settings(self.recipe).gpus_per_worker else "cpu"


def evaluate(
    recipe: Recipe, *, model: Path | None = None, name: str = "final", recompute: bool = False
) -> dict[str, Any]:
    """Draw videos for the recipe's held-out clips, measure them, log all of it to MLflow.

    model: a pipeline folder; default: what the recipe's last stage left. Leaves in evaluate/NAME:
    videos/SET/CLIP.mp4, reference/SET/CLIP.mp4 (CLIP.png of a given image), untrained/videos/SET/CLIP.mp4,
    clips.jsonl, measures.jsonl, metrics.json, grid.png, grid.mp4, grid.gif. Returns {"metrics": {name:
    number}, "clips", "seconds", "paths", "tracking"}. recompute: measures the videos that are there, draws
    none. Raises EvaluationError, or FileNotFoundError for a model that is not there.
    """
    recipe = with_absolute_paths(recipe)
    folder = RunLayout.of(recipe).evaluation(name)
    if recompute:
        return _recompute(recipe, folder)
    started = time.monotonic()
    model = _model_folder(recipe, model)
    clips = select_clips(recipe)
    _check_protocols(recipe, clips)
    drawn = _fingerprint(recipe, model, clips)
    kept = _protocol(folder).get("fingerprint") == drawn
    if not kept:
        _clear(folder)  # before the new protocol is written: no video of another model is ever under it
    write_clips(folder / "clips.jsonl", clips)
    write_json(folder / "protocol.json", {"fingerprint": drawn, "model": str(model), "name": name})
    plan = Plan(recipe, str(folder), str(model), _networks(recipe), vocabulary_of(clips), kept)
    rows = _stream(plan, clips, "evaluate: draw and measure")
    return _finish(recipe, folder, clips, rows, started)


class EvaluationWorker:
    """Draws batches of clips, saves them, and measures the saved files."""

    def __init__(self, plan: Plan) -> None:
        import cv2
        import torch

        if plan.device == "cpu":
            torch.set_num_threads(1)  # parallel by workers; and results that do not depend on the machine
        cv2.setNumThreads(1)
        self.plan, self.folder = plan, storage_path(plan.folder)
        self.settings = evaluate_settings(plan.recipe)
        self.measurer = Measurer(plan.networks, plan.vocabulary, plan.device, self.settings.watermark)
        self.reader = ReferenceReader(plan.recipe)
        self.pipelines: dict[str, Any] = {}

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A Ray Data batch of jobs (JSON) → their rows (JSON)."""
        results = []
        for job in map(json.loads, batch["job"]):
            clips = [clip_from_json(entry) for entry in job["clips"]]
            results.append(json.dumps(self.work(clips, tuple(job["variants"]))))
        return {"rows": results}

    def work(self, clips: Sequence[EvaluationClip], variants: tuple[str, ...]) -> list[Row]:
        """Draw (unless there is no model) and measure clips of one size."""
        if self.plan.model is not None:
            self._save_references(clips)
            for variant in variants:
                if variant != REAL:
                    self._draw(clips, variant)
        return [self.measurer.measure(self.folder, variant, clip) for clip in clips for variant in variants]

    def _save_references(self, clips: Sequence[EvaluationClip]) -> None:
        for clip in clips:
            path = image_path(self.folder, clip) if clip.given_image else video_path(self.folder, REAL, clip)
            if self.plan.keep and path.is_file():
                continue
            if clip.given_image:
                write_png(path, self.reader.image(clip))
            else:
                write_mp4(path, self.reader.read(clip), clip.fps)

    def _draw(self, clips: Sequence[EvaluationClip], variant: str) -> None:
        from pipelines.evaluation.generate import draw_clips

        paths = [video_path(self.folder, variant, clip) for clip in clips]
        if self.plan.keep and all(path.is_file() for path in paths):
            return
        images = [conditioning_image(self.folder, clip) for clip in clips]
        pipeline = self._pipeline(variant)
        videos = draw_clips(pipeline, clips, images, self.settings.sampling, self.plan.recipe.seed)
        for path, frames, clip in zip(paths, videos, clips, strict=True):
            write_mp4(path, frames, clip.fps)

    def _pipeline(self, variant: str) -> Any:
        if variant not in self.pipelines:
            from pipelines.evaluation.generate import load_pipeline, ready

            scheduler = self.settings.sampling.scheduler
            if variant == UNTRAINED:
                from pipelines.training.run import build_pipeline

                self.pipelines[variant] = ready(build_pipeline(self.plan.recipe), scheduler, self.plan.device)
            else:
                assert self.plan.model is not None
                self.pipelines[variant] = load_pipeline(self.plan.model, scheduler, self.plan.device)
        return self.pipelines[variant]


# ---------------------------------------------------------------- the stream


def _stream(plan: Plan, clips: Sequence[EvaluationClip], description: str) -> list[Row]:
    """All rows of measures, from a fixed pool of workers."""
    settings = evaluate_settings(plan.recipe)
    jobs = [{"job": job} for job in _jobs(clips, settings.batch_clips)]
    rows: list[Row] = []
    with start_ray(), track(sum(len(variants_of(clip)) for clip in clips), description) as step:
        for found in pool_rows(EvaluationWorker, plan, jobs, settings):
            rows += found
            step.advance(len(found), detail=_so_far(rows))
    return rows


def _jobs(clips: Sequence[EvaluationClip], batch_clips: int) -> Iterator[str]:
    """Batches of clips of one size, drawn by the same models; the long jobs first."""
    ordered = sorted(clips, key=lambda clip: (not clip.untrained, clip.given_image, clip.size))
    for _, group in groupby(ordered, key=lambda clip: (clip.untrained, clip.given_image, clip.size)):
        members = list(group)
        for start in range(0, len(members), batch_clips):
            batch = members[start : start + batch_clips]
            yield json.dumps({"variants": variants_of(batch[0]), "clips": [asdict(clip) for clip in batch]})


def _so_far(rows: Sequence[Row]) -> str:
    hits = [o["asked"] == o["seen"] for row in rows if row["variant"] == "generated" for o in row["objects"]]
    return f"{sum(hits)} of {len(hits)} objects move as asked" if hits else ""


# ---------------------------------------------------------------- before and after


def _recompute(recipe: Recipe, folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    clips = read_evaluation_clips(folder / "clips.jsonl")
    _check_protocols(recipe, clips)
    plan = Plan(recipe, str(folder), None, _networks(recipe), vocabulary_of(clips), keep=True)
    return _finish(recipe, folder, clips, _stream(plan, clips, "evaluate: measure"), started)


def _clear(folder: Path) -> None:
    """Remove what an evaluation of another model or recipe left."""
    (folder / "metrics.json").unlink(missing_ok=True)
    for name in ("videos", "reference", "untrained"):
        remove_tree(folder / name)


def _finish(
    recipe: Recipe, folder: Path, clips: Sequence[EvaluationClip], rows: list[Row], started: float
) -> dict[str, Any]:
    """Write what the rows say; the metrics come last, so that a folder with metrics.json is whole."""
    expected = sum(len(variants_of(clip)) for clip in clips)
    if len(rows) != expected:
        raise EvaluationError(f"{len(rows)} videos were measured, but {expected} were to be: run it again")
    rows = sorted(rows, key=lambda row: (row["set"], row["variant"], row["clip_id"]))
    metrics, confusion = summarise(rows, _setting(recipe, clips))
    gallery = write_gallery(folder, clips, rows)
    measured = [{key: value for key, value in row.items() if key != "features"} for row in rows]
    write_text(folder / "measures.jsonl", "".join(json.dumps(row) + "\n" for row in measured))
    data = fingerprint([asdict(clip) | {"uri": Path(clip.uri).name} for clip in clips])
    numbers = flat(metrics)
    report = {
        "summary": numbers,
        "metrics": as_json(metrics),
        "confusion": confusion,
        "data_fingerprint": data,
        **_protocol(folder),
    }
    write_json(folder / "metrics.json", report)
    return {
        "metrics": numbers,
        "clips": len(clips),
        "seconds": round(time.monotonic() - started, 1),
        "paths": {path.name: str(path) for path in (*gallery, folder / "metrics.json", folder / "videos")},
        "tracking": log_evaluation(recipe, folder, metrics, clips, data),
    }


def _model_folder(recipe: Recipe, model: Path | None) -> Path:
    if model is None:
        if recipe.train is None:
            raise EvaluationError("the recipe trains nothing: name the model with --model FOLDER")
        model = RunLayout.of(recipe).model(recipe.train.stages[-1].name)
    if not (model / "model_index.json").is_file():
        raise FileNotFoundError(
            f"no model in {model}: `dreamer train` makes it, or name another with --model FOLDER"
        )
    return model.absolute()


def _check_protocols(recipe: Recipe, clips: Sequence[EvaluationClip]) -> None:
    """Refuse, before anything is drawn, numbers that would not be what their names say."""
    settings = evaluate_settings(recipe)
    real = Counter(clip.set for clip in clips if not clip.given_image)
    faults = list(few_clips_faults(settings, real))
    if real:
        faults += few_frames_faults(settings, min(clip.frames for clip in clips if not clip.given_image))
    if faults:
        raise EvaluationError("\n".join(faults))
    try:
        if settings.watermark is not None:
            read_mark(settings.watermark)
    except FileNotFoundError as error:
        raise EvaluationError(f"evaluate.watermark: {error}") from error
    try:
        fetch_networks(settings.networks)
    except FeatureNetworkError as error:
        raise EvaluationError(f"evaluate.networks: {error}") from error


def _networks(recipe: Recipe) -> Networks:
    return Networks(
        clip=recipe.models.image_encoder,
        video_classifier=recipe.models.video_classifier,
        files=evaluate_settings(recipe).networks,
    )


def _fingerprint(recipe: Recipe, model: Path, clips: Sequence[EvaluationClip]) -> str:
    """Of everything that the drawn pixels depend on."""
    settings = evaluate_settings(recipe)
    code = source_fingerprint("modeling", "pipelines.evaluation.generate", "pipelines.media")
    weights = weights_sha256.__wrapped__(
        str(model)
    )  # not cached: a folder's weights change with each training
    return fingerprint(
        settings.sampling, settings.batch_clips, recipe.seed, weights, code, [asdict(c) for c in clips]
    )


def _setting(recipe: Recipe, clips: Sequence[EvaluationClip]) -> Setting:
    networks = _networks(recipe)
    return Setting(
        first_set=clips[0].set,
        vocabulary=vocabulary_of(list(clips)),
        fps=clips[0].fps,
        size="x".join(map(str, clips[0].size)),
        seed=recipe.seed,
        dynamic_threshold=evaluate_settings(recipe).dynamic_threshold,
        few_clips=evaluate_settings(recipe).allow_few_clips,
        networks=network_notes(networks.clip, networks.video_classifier, networks.files),
        classes=classifier_classes(networks.video_classifier),
    )


def _protocol(folder: Path) -> dict[str, Any]:
    path = folder / "protocol.json"
    return json.loads(path.read_text()) if path.is_file() else {}
