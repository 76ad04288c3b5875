"""From measures of single videos to metrics, each with the protocol that it was measured by."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.evaluation.bootstrap import mean_interval, ratio_interval, share_interval
from pipelines.evaluation.distances import brightness_metrics, network_metrics
from pipelines.evaluation.groups import REAL, Group, Metric, Row, Setting
from pipelines.evaluation.metrics import dynamic_degree, leakage, wilson_interval
from pipelines.evaluation.motion import FLOW_SIDE_PIXELS, LOST
from pipelines.evaluation.motion import PROTOCOL as MOTION_PROTOCOL
from pipelines.evaluation.watermark import THRESHOLD

FLOW = f"DIS optical flow on frames resized to {FLOW_SIDE_PIXELS} px short side"
FASTEST = "DIS optical flow of the fastest 5 % of pixels, mean over frames, in short sides per second"


@dataclass(frozen=True)
class Mean:
    """A measure of each video whose mean is a metric. network: what it is seen through."""

    protocol: str
    network: str | None = None
    of_real_videos: bool = True


MEANS = {
    "first_frame_psnr_db": Mean(
        "PSNR of the video's first frame against the conditioning image at the video's size, as read from "
        "their files; mean over clips",
        of_real_videos=False,
    ),
    "first_frame_ssim": Mean(
        "structural similarity of the same two pictures, Gaussian window of 11 pixels; mean over pixels, "
        "channels, then clips",
        of_real_videos=False,
    ),
    "first_frame_lpips": Mean("LPIPS of the same two pictures; mean over clips", "lpips", False),
    "later_frames_psnr_db": Mean(
        "PSNR of each frame after the first against the same frame of the real video; mean over frames, then "
        "clips: of use where image and caption decide what happens",
        of_real_videos=False,
    ),
    "image_repetition": Mean(
        "structural similarity of the frames after the first with the conditioning image; mean over frames, "
        "then clips: 1 repeats the image"
    ),
    "frame_consistency": Mean(
        "cosine of CLIP image features of adjacent frames, mean over frames, then clips", "clip"
    ),
    "prompt_consistency": Mean(
        "cosine of CLIP image features of each frame and text features of the appearance caption, mean over "
        "frames, then clips",
        "clip",
    ),
    "motion_strength": Mean(f"{FASTEST}; mean over clips"),
    "flow_score": Mean(
        f"mean length over pixels and frames of {FLOW}, in short sides per second; then over clips"
    ),
    "warping_error": Mean(
        f"mean squared difference, in 0..1, of frames and the next ones warped back by {FLOW}, over pixels "
        "that flow forward and back leads home; mean over frames, then clips (Lai et al. 2018)"
    ),
    "watermark_correlation": Mean(
        "correlation of the known watermark with the mean of the frames after the first, both without what "
        "is smooth; mean over clips"
    ),
}


def summarise(rows: Sequence[Row], setting: Setting) -> tuple[list[Metric], dict[str, Any]]:
    """(all metrics, confusion matrices by set and variant)."""
    rows = sorted(
        rows, key=lambda row: (row["set"] != setting.first_set, row["set"], row["variant"], row["clip_id"])
    )
    by_group: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_group.setdefault((row["set"], row["variant"]), []).append(row)
    metrics: list[Metric] = []
    confusion: dict[str, Any] = {}
    for (name, variant), members in by_group.items():
        group = Group(name, variant, members, setting)
        metrics += [*_motion_accuracy(group), *_class_accuracy(group), *_means(group), *_dynamics(group)]
        metrics += _watermarks(group)
        real = by_group.get((name, REAL), [])
        metrics += [*brightness_metrics(group, real), *network_metrics(group, real)]
        if any(row["objects"] for row in members):
            confusion[f"{name}/{variant}"] = confusion_matrix(members, setting.vocabulary)
    return metrics, confusion


def flat(metrics: Sequence[Metric]) -> dict[str, float | int]:
    """{name: value}, with NAME_low and NAME_high where a metric has an interval."""
    numbers: dict[str, float | int] = {}
    for metric in metrics:
        numbers[metric.name] = round(metric.value, 6)
        if metric.interval is not None:
            numbers[f"{metric.name}_low"], numbers[f"{metric.name}_high"] = (
                round(x, 6) for x in metric.interval
            )
    return numbers


def as_json(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(metric).items() if value is not None} for metric in metrics]


def confusion_matrix(rows: Sequence[Row], vocabulary: Sequence[str]) -> dict[str, Any]:
    """{"asked": [...], "seen": [...], "counts": [[...]]}: a row for each motion asked for."""
    counts = Counter((thing["asked"], thing["seen"]) for row in rows for thing in row["objects"])
    columns = [*vocabulary, LOST]
    return {
        "asked": list(vocabulary),
        "seen": columns,
        "counts": [[counts[asked, seen] for seen in columns] for asked in vocabulary],
    }


def _motion_accuracy(group: Group) -> Iterator[Metric]:
    vocabulary = group.setting.vocabulary
    hits = [[thing["asked"] == thing["seen"] for thing in row["objects"]] for row in group.rows]
    hits = [of_clip for of_clip in hits if of_clip]
    if not hits:
        return
    right, of = sum(map(sum, hits)), sum(map(len, hits))
    protocol = f"{MOTION_PROTOCOL}; vocabulary: {', '.join(vocabulary)}; chance 1/{len(vocabulary)}"
    several = any(len(of_clip) > 1 for of_clip in hits)
    if several:  # objects of one clip are drawn together, and fail together
        interval = ratio_interval(list(map(sum, hits)), list(map(len, hits)), group.setting.seed)
    else:
        interval = wilson_interval(right, of)
    method = "bootstrap over clips" if several else "Wilson's interval"
    yield group.metric(
        "motion_accuracy",
        right / of,
        f"share of objects that move as asked: {protocol}; {method}",
        interval,
        samples=of,
    )
    if several:
        whole = sum(map(all, hits))
        yield group.metric(
            "motion_accuracy_whole_clips",
            whole / len(hits),
            f"share of clips all of whose objects move as asked: {protocol}; Wilson's interval",
            wilson_interval(whole, len(hits)),
            samples=len(hits),
        )


def _class_accuracy(group: Group) -> Iterator[Metric]:
    """Where the classifier knows every motion that is asked for; it needs no place of an object."""
    classes, vocabulary = group.setting.classes, group.setting.vocabulary
    single = [row for row in group.rows if len(row["objects"]) == 1]
    if not single or not set(vocabulary) <= set(classes):
        return
    hits = [row["motion_class"] == row["objects"][0]["asked"] for row in single]
    yield group.metric(
        "motion_class_accuracy",
        float(np.mean(hits)),
        "share of videos of one object whose most probable class, by the video classifier, is the motion "
        f"asked for; classes: {', '.join(classes)}; chance 1/{len(classes)}; Wilson's interval",
        wilson_interval(sum(hits), len(hits)),
        samples=len(hits),
        network="classifier",
    )


def _means(group: Group) -> Iterator[Metric]:
    for name, mean in MEANS.items():
        values = [row[name] for row in group.rows if row.get(name) is not None]
        if values and (mean.of_real_videos or group.variant != REAL):
            yield group.metric(
                name,
                float(np.mean(values)),
                f"{mean.protocol}; bootstrap over clips",
                mean_interval(values, group.setting.seed),
                samples=len(values),
                network=mean.network,
            )


def _watermarks(group: Group) -> Iterator[Metric]:
    found = [row["watermark_correlation"] > THRESHOLD for row in group.rows if "watermark_correlation" in row]
    if found:
        yield group.metric(
            "watermark_share",
            float(np.mean(found)),
            f"share of videos whose watermark_correlation is above {THRESHOLD:g}; Wilson's interval",
            wilson_interval(sum(found), len(found)),
        )


def _dynamics(group: Group) -> Iterator[Metric]:
    threshold, seed = group.setting.dynamic_threshold, group.setting.seed
    strengths = [row["motion_strength"] for row in group.rows]
    method = "bootstrap over clips, Wilson's interval where all agree"
    yield group.metric(
        "dynamic_degree",
        dynamic_degree(strengths, threshold),
        f"share of videos above {threshold:g}: {FASTEST}; {method}",
        share_interval([strength > threshold for strength in strengths], seed),
    )
    asked = [row["asks_for_motion"] for row in group.rows]
    leaked = leakage(asked, strengths, threshold)
    if leaked is not None:
        still = [strength <= threshold for strength, moves in zip(strengths, asked, strict=True) if moves]
        yield group.metric(
            "leakage",
            leaked,
            "share of the videos that were asked to move (by their labels, without labels by a motion "
            f"caption) and do not: not above {threshold:g}, {FASTEST}; {method}",
            share_interval(still, seed),
            samples=len(still),
        )
