"""Distances of a group of videos from real ones, and scores through networks: FVD, IS, brightness."""

from collections.abc import Iterator

import numpy as np

from pipelines.evaluation.bootstrap import (
    SLOW_RESAMPLES,
    frechet_interval,
    inception_interval,
    wasserstein_interval,
)
from pipelines.evaluation.groups import REAL, Group, Metric, Row
from pipelines.evaluation.measure import unpacked
from pipelines.evaluation.metrics import GaussianStatistics, inception_score, wasserstein_distance
from pipelines.evaluation.protocol import (
    FVD_CLIPS,
    IS_CLIPS,
    IS_SPLITS,
    VIDEO_FRAMES,
    cd_fvd_name,
    fvd_name,
    inception_score_name,
)
from pipelines.models import weights_sha256

TINY_CLASSIFIER = "embedded://video_classifier"
MOVED = (
    "bootstrap over clips, percentiles moved so that their mean is the value, for a resample repeats clips"
)
MOVED_SLOW = f"{MOVED}; {SLOW_RESAMPLES} resamples"
GAUSSIANS = "Fréchet distance of Gaussians, drawn against real videos of the same clips"
DISTANCES = {
    "i3d": f"FVD as of StyleGAN-V, but for the choice of clips: I3D of Kinetics-400, first {VIDEO_FRAMES} "
    f"frames; {GAUSSIANS}; {MOVED_SLOW}",
    "videomae": f"content-debiased FVD: VideoMAE, mean of tokens before the classifier, first {VIDEO_FRAMES} "
    f"frames; {GAUSSIANS}; {MOVED_SLOW}",
}


def network_metrics(group: Group, real: list[Row]) -> Iterator[Metric]:
    """real: rows of the real videos of the group's set. Without any there is nothing to compare with."""
    if not real:
        return
    allowed = group.setting.few_clips
    for network, least, name in (("i3d", FVD_CLIPS, fvd_name), ("videomae", FVD_CLIPS, cd_fvd_name)):
        if network in group.setting.networks and (allowed or len(group.rows) >= least):
            yield from _distance(
                group, real, network, name(len(group.rows)), DISTANCES[network], VIDEO_FRAMES
            )
    if "c3d" in group.setting.networks and (allowed or len(group.rows) >= IS_CLIPS):
        yield from _inception(group)
    if "classifier" in group.setting.networks:
        yield from _classifier_distance(group, real)


def brightness_metrics(group: Group, real: list[Row]) -> Iterator[Metric]:
    """How far the videos are, as a set, from being as dark and as bright as real ones.

    What a noise schedule without zero terminal SNR gets wrong (Lin et al. 2024, arXiv 2305.08891, section 1).
    """
    of_same_clips = _of_same_clips(group, real)
    if group.variant == REAL or not of_same_clips:
        return
    drawn, true = (np.array([row["brightness"] for row in rows]) for rows in (group.rows, of_same_clips))
    yield group.metric(
        "brightness_distance",
        float(wasserstein_distance(drawn, true)),
        "earth mover's distance between the mean brightness, in 0..1, of drawn videos and of real videos of "
        f"the same clips; {MOVED}",
        wasserstein_interval(drawn, true, group.setting.seed),
    )


def _of_same_clips(group: Group, real: list[Row]) -> list[Row]:
    ids = {row["clip_id"] for row in group.rows}
    return [row for row in real if row["clip_id"] in ids]


def _classifier_distance(group: Group, real: list[Row]) -> Iterator[Metric]:
    clips, frames = len(group.rows), group.rows[0]["frames"]
    tiny = group.setting.networks["classifier"].sha256 == weights_sha256(TINY_CLASSIFIER)
    which = "this project's tiny" if tiny else "a"
    yield from _distance(
        group,
        real,
        "classifier",
        f"fvd_{'tiny_' if tiny else ''}classifier_n{clips}_{frames}f",
        f"{GAUSSIANS} over features of {which} video classifier: not I3D FVD, comparable at one sample count "
        f"only; {MOVED_SLOW}",
        frames,
    )


def _distance(
    group: Group, real: list[Row], network: str, name: str, protocol: str, frames: int
) -> Iterator[Metric]:
    """Against the real videos of the same clips; none of fewer than two, nor of these themselves."""
    if group.variant == REAL or len(group.rows) < 2:
        return
    drawn, reference = unpacked(group.rows, network), unpacked(_of_same_clips(group, real), network)
    width = drawn.shape[1]
    value = GaussianStatistics(width).update(drawn).distance(GaussianStatistics(width).update(reference))
    interval = frechet_interval(drawn, reference, group.setting.seed, paired=True)
    yield group.metric(name, value, protocol, interval, frames=frames, network=network)


def _inception(group: Group) -> Iterator[Metric]:
    """In the order of a seeded shuffle: sorted by class, a split would have few classes."""
    if len(group.rows) < IS_SPLITS:
        return
    table = unpacked(group.rows, "c3d").astype(np.float64)
    table = table[np.random.default_rng(group.setting.seed).permutation(len(table))]
    table /= table.sum(1, keepdims=True)  # float32 of the network: to the last digit
    yield group.metric(
        inception_score_name(len(table)),
        inception_score(table, IS_SPLITS),
        f"inception score, C3D of UCF101, first {VIDEO_FRAMES} frames, {IS_SPLITS} splits of shuffled clips, "
        f"mean of splits; {MOVED_SLOW}",
        inception_interval(table, IS_SPLITS, group.setting.seed),
        frames=VIDEO_FRAMES,
        network="c3d",
    )
