"""From measures of single videos to metrics, each with the protocol that it was measured by."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.evaluation.metrics import GaussianStatistics, dynamic_degree, wilson_interval
from pipelines.evaluation.motion import LOST
from pipelines.evaluation.motion import PROTOCOL as MOTION_PROTOCOL

Row = dict[str, Any]
MEANS = {
    "first_frame_psnr_db": "PSNR of the video's first frame against the conditioning image at the video's "
    "size, both as read from their mp4 files; mean over clips",
    "first_frame_ssim": "structural similarity of the same two pictures, Gaussian window of 11 pixels; mean "
    "over pixels, channels, then clips",
    "frame_consistency": "cosine of CLIP image features of adjacent frames, mean over frames, then clips",
    "prompt_consistency": "cosine of CLIP image features of each frame and text features of the appearance "
    "caption, mean over frames, then clips",
}

OF_FIRST_FRAME = ("first_frame_psnr_db", "first_frame_ssim")


@dataclass(frozen=True)
class Metric:
    """A number with its protocol; one without it is never written.

    resize: what frames go through before the feature network. interval: 95 %.
    """

    name: str
    value: float
    protocol: str
    samples: int
    frames: int
    fps: float
    resize: str
    seed: int
    feature_network_sha256: str | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Setting:
    """What all metrics of an evaluation share."""

    first_set: str
    vocabulary: tuple[str, ...]
    fps: float
    size: str
    seed: int
    dynamic_threshold: float
    clip_sha256: str
    classifier_sha256: str | None
    classifier_resize: str | None


def summarise(rows: Sequence[Row], setting: Setting) -> tuple[list[Metric], dict[str, Any]]:
    """(all metrics, confusion matrices by set and variant)."""
    rows = sorted(
        rows, key=lambda row: (row["set"] != setting.first_set, row["set"], row["variant"], row["clip_id"])
    )
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["variant"]), []).append(row)
    metrics: list[Metric] = []
    confusion: dict[str, Any] = {}
    for (name, variant), group in groups.items():
        suffix = _suffix(name, variant, setting)
        metrics += _motion(group, suffix, setting)
        metrics += _means(group, suffix, variant, setting)
        if variant != "ground_truth":
            metrics += _frechet(group, groups[name, "ground_truth"], suffix, setting)
        if any(row["objects"] for row in group):
            confusion[f"{name}/{variant}"] = confusion_matrix(group, setting.vocabulary)
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


def _suffix(name: str, variant: str, setting: Setting) -> str:
    return ("" if variant == "generated" else f"_{variant}") + (
        "" if name == setting.first_set else f"_{name}"
    )


def _motion(group: list[Row], suffix: str, setting: Setting) -> list[Metric]:
    hits = [[thing["asked"] == thing["seen"] for thing in row["objects"]] for row in group]
    each = [hit for row in hits for hit in row]
    if not each:
        return []
    protocol = (
        f"{MOTION_PROTOCOL}; vocabulary: {', '.join(setting.vocabulary)}; chance 1/{len(setting.vocabulary)}"
    )
    metrics = [
        _share(
            f"motion_accuracy{suffix}",
            sum(each),
            len(each),
            f"share of objects that move as asked: {protocol}",
            group,
            setting,
        )
    ]
    if any(len(row) > 1 for row in hits):
        all_right = sum(all(row) for row in hits)
        metrics.append(
            _share(
                f"motion_accuracy_whole_clips{suffix}",
                all_right,
                len(hits),
                f"share of clips all of whose objects move as asked: {protocol}",
                group,
                setting,
            )
        )
    return metrics


def _share(name: str, right: int, of: int, protocol: str, group: list[Row], setting: Setting) -> Metric:
    return Metric(
        name=name,
        value=right / of,
        protocol=f"{protocol}; Wilson's interval",
        samples=of,
        frames=group[0]["frames"],
        fps=setting.fps,
        resize=f"from {setting.size}",
        seed=setting.seed,
        interval=wilson_interval(right, of),
    )


def _means(group: list[Row], suffix: str, variant: str, setting: Setting) -> list[Metric]:
    common = {"samples": len(group), "frames": group[0]["frames"], "fps": setting.fps, "seed": setting.seed}
    metrics = [
        Metric(
            name=name + suffix,
            value=float(np.mean([row[name] for row in group])),
            protocol=protocol,
            resize="none"
            if name in OF_FIRST_FRAME
            else f"from {setting.size}, squeezed bicubic to CLIP's side",
            feature_network_sha256=None if name in OF_FIRST_FRAME else setting.clip_sha256,
            **common,
        )
        for name, protocol in MEANS.items()
        if not (name in OF_FIRST_FRAME and variant == "ground_truth")
    ]
    strengths = [row["motion_strength"] for row in group]
    fastest = "DIS optical flow of the fastest 5 % of pixels, mean over frames, in short sides per second"
    metrics.append(
        Metric(
            name=f"dynamic_degree{suffix}",
            value=dynamic_degree(strengths, setting.dynamic_threshold),
            protocol=f"share of videos above {setting.dynamic_threshold:g}: {fastest}",
            resize=f"from {setting.size}",
            **common,
        )
    )
    metrics.append(
        Metric(
            name=f"motion_strength{suffix}",
            value=float(np.mean(strengths)),
            protocol=f"{fastest}; mean over clips",
            resize=f"from {setting.size}",
            **common,
        )
    )
    return metrics


def _frechet(group: list[Row], real: list[Row], suffix: str, setting: Setting) -> list[Metric]:
    """Against the ground truth of the same clips; none without a classifier or below two clips."""
    if setting.classifier_sha256 is None or len(group) < 2:
        return []
    ids = {row["clip_id"] for row in group}
    drawn = _gaussian(group)
    distance = drawn.distance(_gaussian([row for row in real if row["clip_id"] in ids]))
    frames = group[0]["frames"]
    return [
        Metric(
            name=f"fvd_tiny_classifier_n{drawn.count}_{frames}f{suffix}",
            value=distance,
            protocol="Fréchet distance of Gaussians over features of this project's tiny video classifier, "
            "drawn against real videos of the same clips: not I3D FVD, comparable at one sample count only",
            samples=drawn.count,
            frames=frames,
            fps=setting.fps,
            resize=f"from {setting.size} to {setting.classifier_resize}",
            seed=setting.seed,
            feature_network_sha256=setting.classifier_sha256,
        )
    ]


def _gaussian(rows: list[Row]) -> GaussianStatistics:
    features = np.array([row["features"] for row in rows])
    return GaussianStatistics(features.shape[1]).update(features)
