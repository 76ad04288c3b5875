"""UCF101 zero-shot: videos of its classes from text, FVD and IS against its real videos, as one Ray Data job.

The field's protocol: a sentence for each class, classes in the proportion of the real videos, FVD of 2,048
drawn and 2,048 real clips of 16 frames (StyleGAN-V), IS of 10,000 drawn clips through C3D. Papers differ in
the rest; `pipelines.evaluation.published` says how.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.cluster import start_ray
from pipelines.evaluation.claim import claim_folder
from pipelines.evaluation.feature_networks import fetch_networks, network_notes
from pipelines.evaluation.pool import pool_rows
from pipelines.evaluation.protocol import FVD_CLIPS, IS_CLIPS, VIDEO_FRAMES, few_clips_faults
from pipelines.evaluation.published import UCF101, differences
from pipelines.evaluation.reference import evaluate_settings
from pipelines.evaluation.summary import as_json, flat
from pipelines.evaluation.tracking import DataNote, log_metrics
from pipelines.evaluation.ucf101_data import (
    Split,
    Ucf101Error,
    compared_size,
    in_proportion,
    read_split,
    real_order,
)
from pipelines.evaluation.ucf101_metrics import Compared, metrics_of
from pipelines.evaluation.ucf101_prompts import PROMPTS
from pipelines.evaluation.ucf101_worker import Plan, Ucf101Worker, video_path
from pipelines.files import write_json
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.media import contact_sheet, read_mp4
from pipelines.node_types import reachable_cluster
from pipelines.progress import track
from pipelines.recipe import Recipe, RecipeError, with_absolute_paths
from pipelines.schedulable import schedule_faults
from pipelines.storage import storage_path

Row = dict[str, Any]
SHEET_CLASSES, SPARE_CLIPS = 16, 8


@dataclass(frozen=True)
class Ucf101Settings:
    """What is compared with what.

    videos, splits: see `read_split`. clips: drawn; None: 10,000 when the recipe names C3D, which IS needs,
    else 2,048. given_image: real first frames are animated: image to video, another protocol.
    """

    videos: Path
    splits: Path
    split: Split = "train"
    number: int = 1
    clips: int | None = None
    given_image: bool = False


def evaluate_ucf101(
    recipe: Recipe, settings: Ucf101Settings, *, model: Path | None = None, name: str = "ucf101"
) -> dict[str, Any]:
    """Draw videos of UCF101's classes, look at them and at real ones through the recipe's networks, compare.

    model: a pipeline folder; default: what the recipe's last stage left. Leaves in evaluate/NAME:
    videos/CLASS/NUMBER.mp4 (or, given images, the real video's name), drawn.json, grid.png, metrics.json.
    Started again it keeps the videos that are whole. Returns {"metrics", "protocol", "published", "left_out",
    "seconds", "paths", "tracking"}.
    Raises Ucf101Error, RecipeError for settings that would give no comparable number or find no room,
    ClaimedError when the folder has another model's videos, FileNotFoundError for a model that is not there.
    """
    started = time.monotonic()
    recipe = with_absolute_paths(recipe)
    if faults := list(schedule_faults(recipe, ("evaluate",), reachable_cluster())):
        raise RecipeError("\n".join(faults))
    classes = read_split(settings.videos.absolute(), settings.splits, settings.split, settings.number)
    clips = _clips(recipe, settings, classes)
    plan = _plan(recipe, settings, model, name)
    folder = storage_path(plan.folder)
    _claim(plan, settings, classes)
    with start_ray():
        real, left_out = _real(plan, real_order(classes, recipe.seed), clips, settings.given_image)
        _refuse_too_few(recipe, len(real))
        drawn = _stream(plan, _drawn_items(plan, classes, real, clips), "ucf101: draw and measure")
    compared = _compared(plan, settings, real, drawn)
    metrics = metrics_of(drawn, real, compared, _notes(recipe))
    sheet = _sheet(folder, drawn)
    published = [asdict(row) | {"differences": differences(row, compared)} for row in UCF101]
    report = {
        "summary": flat(metrics),
        "metrics": as_json(metrics),
        "protocol": asdict(compared),
        "published": published,
        "drawn_of_class": dict(sorted(Counter(row["class"] for row in drawn).items())),
        "left_out": left_out,
    }
    write_json(folder / "metrics.json", report)
    return {
        "metrics": report["summary"],
        "protocol": report["protocol"],
        "published": published,
        "left_out": len(left_out),
        "seconds": round(time.monotonic() - started, 1),
        "paths": {path.name: str(path) for path in (folder / "metrics.json", sheet, folder / "videos")},
        "tracking": log_metrics(
            recipe, folder, metrics, _data_note(settings, real), ("metrics.json", sheet.name, "drawn.json")
        ),
    }


# ---------------------------------------------------------------- before anything is drawn


def _clips(recipe: Recipe, settings: Ucf101Settings, classes: dict[str, list[str]]) -> int:
    """How many are drawn. Raises RecipeError when no number would come of it, or none to compare."""
    evaluate = evaluate_settings(recipe)
    networks = evaluate.networks
    if not any((networks.i3d, networks.c3d, networks.videomae)):
        raise RecipeError(
            "evaluate.networks names no network: FVD needs evaluate.networks.i3d.file and .sha256, IS the "
            "same of c3d, content-debiased FVD evaluate.networks.videomae"
        )
    clips = settings.clips or (IS_CLIPS if networks.c3d else FVD_CLIPS)
    videos = sum(map(len, classes.values()))
    if settings.given_image and clips > videos:
        raise RecipeError(
            f"{clips:,} clips from given first frames need as many real videos; the split has {videos:,}: "
            f"give --clips {videos} or less, or --split all"
        )
    if faults := list(few_clips_faults(evaluate, {"ucf101": clips})):
        raise RecipeError("\n".join(faults))
    _refuse_too_few(recipe, videos)
    fetch_networks(networks)
    return clips


def _plan(recipe: Recipe, settings: Ucf101Settings, model: Path | None, name: str) -> Plan:
    from pipelines.evaluation.prompts import find_model

    model_folder, _ = find_model(model or RunLayout.of(recipe).root)
    bucket = recipe.curation.tiers[evaluate_settings(recipe).tier][0]
    return Plan(
        recipe=recipe,
        folder=str(RunLayout.of(recipe).evaluation(name)),
        model=str(model_folder.absolute()),
        videos=str(settings.videos.absolute()),
        frames=max(VIDEO_FRAMES, bucket.frames),
        size=compared_size(bucket.height, bucket.width),
        given_image=settings.given_image,
    )


def _claim(plan: Plan, settings: Ucf101Settings, classes: dict[str, list[str]]) -> None:
    from pipelines.evaluation.prompts import drawing_fingerprint

    recipe, folder = plan.recipe, storage_path(plan.folder)
    sampling = evaluate_settings(recipe).sampling
    drawing = drawing_fingerprint(storage_path(plan.model), recipe, sampling, plan.frames)
    images = (classes, plan.size) if settings.given_image else None
    whose = fingerprint(drawing, PROMPTS, recipe.seed, images)
    told = {"model": plan.model, "seed": recipe.seed, "given_image": settings.given_image}
    claim_folder(folder, folder / "videos", whose, told)
    (folder / "metrics.json").unlink(missing_ok=True)  # of a run that is not this one until it is whole


def _refuse_too_few(recipe: Recipe, real: int) -> None:
    """real: how many there are to compare with, or can be used of them."""
    evaluate = evaluate_settings(recipe)
    networks = evaluate.networks
    if real < FVD_CLIPS and (networks.i3d or networks.videomae) and not evaluate.allow_few_clips:
        raise Ucf101Error(
            f"there are {real:,} real videos to use, FVD is published over {FVD_CLIPS:,}: give --split all, "
            "or set evaluate.allow_few_clips=true, which names the number with its clips"
        )


# ---------------------------------------------------------------- the stream


def _real(
    plan: Plan, order: Sequence[str], clips: int, given_image: bool
) -> tuple[list[Row], list[dict[str, str]]]:
    """(rows of real clips, those left out and why); what is left out is replaced by what comes next.

    FVD takes 2,048; with given images every drawn clip has a real one.
    """
    wanted = clips if given_image else min(clips, FVD_CLIPS)
    waiting = iter(order)
    looked_at: list[Row] = []
    while missing := wanted - sum("reason" not in row for row in looked_at):
        # Some to spare: a worker's start takes longer than looking at a few clips more.
        batch = list(islice(waiting, missing + max(SPARE_CLIPS, missing // 20)))
        if not batch:
            break
        items = [{"kind": "real", "class": path.split("/")[0], "path": path} for path in batch]
        looked_at += _stream(plan, items, "ucf101: real videos")
        looked_at = looked_at[: _end(looked_at, wanted)]
    rows = [row for row in looked_at if "reason" not in row]
    left_out = [{"path": row["path"], "reason": row["reason"]} for row in looked_at if "reason" in row]
    if len(rows) < 2:
        raise Ucf101Error(f"of {len(order)} real videos {len(rows)} can be used; the first: {left_out[:1]}")
    return rows, left_out


def _end(rows: Sequence[Row], wanted: int) -> int:
    """How many of the rows it takes to have `wanted` usable ones; all where there are fewer."""
    usable = [number for number, row in enumerate(rows, start=1) if "reason" not in row]
    return usable[wanted - 1] if len(usable) >= wanted else len(rows)


def _drawn_items(plan: Plan, classes: dict[str, list[str]], real: Sequence[Row], clips: int) -> list[Row]:
    """What is drawn, classes in proportion: the first 2,048 are FVD's."""
    if plan.given_image:
        return [{"kind": "drawn", "class": row["class"], "name": Path(row["path"]).stem} for row in real]
    shares = {name: len(paths) for name, paths in classes.items()}
    return [
        {"kind": "drawn", "class": name, "name": f"{number:05d}", "number": number}
        for name, number in islice(in_proportion(shares), clips)
    ]


def _stream(plan: Plan, items: Sequence[Row], description: str) -> list[Row]:
    """The items' rows, in their order, from a fixed pool of workers."""
    settings = evaluate_settings(plan.recipe)
    batches = [
        {"items": json.dumps([{**item, "index": start + n} for n, item in enumerate(part)])}
        for start in range(0, len(items), settings.batch_clips)
        if (part := items[start : start + settings.batch_clips])
    ]
    rows: list[Row] = []
    with track(len(items), description) as step:
        for found in pool_rows(Ucf101Worker, plan, batches, settings):
            rows += found
            step.advance(len(found))
    if len(rows) != len(items):
        raise Ucf101Error(
            f"{len(rows)} of {len(items)} clips came back: run it again, what was drawn is kept"
        )
    return sorted(rows, key=lambda row: row["index"])


# ---------------------------------------------------------------- after


def _compared(plan: Plan, settings: Ucf101Settings, real: Sequence[Row], drawn: Sequence[Row]) -> Compared:
    networks = evaluate_settings(plan.recipe).networks
    bucket = plan.recipe.curation.tiers[evaluate_settings(plan.recipe).tier][0]
    return Compared(
        prompts="a sentence for each class",
        first_frame="a real one is given" if settings.given_image else "drawn from text",
        fvd_clips=min(len(real), len(drawn), FVD_CLIPS),
        is_clips=len(drawn) if networks.c3d else None,
        frames=VIDEO_FRAMES,
        fps=plan.recipe.curation.fps,
        drawn_size=f"{bucket.height}x{bucket.width}",
        compared_size="x".join(map(str, plan.size)),
        real_videos=settings.split if settings.split == "all" else f"{settings.split} list {settings.number}",
        seed=plan.recipe.seed,
    )


def _data_note(settings: Ucf101Settings, real: Sequence[Row]) -> DataNote:
    paths = [row["path"] for row in real]
    source = {"videos": str(settings.videos), "splits": str(settings.splits), "clips": len(paths)}
    return DataNote("UCF101", fingerprint(paths), f"{settings.split} list {settings.number}", source)


def _notes(recipe: Recipe) -> dict[str, Any]:
    return network_notes(recipe.models.image_encoder, None, evaluate_settings(recipe).networks)


def _sheet(folder: Path, drawn: Sequence[Row]) -> Path:
    """Frames of a drawn video of each of some classes."""
    first: dict[str, Row] = {}
    for row in drawn:
        first.setdefault(row["class"], row)
    rows = [
        (PROMPTS[row["class"]], read_mp4(video_path(folder, row))[0])
        for row in islice(first.values(), SHEET_CLASSES)
    ]
    return contact_sheet(folder / "grid.png", rows, columns=2)
