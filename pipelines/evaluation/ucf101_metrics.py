"""FVD, content-debiased FVD and IS of videos of UCF101's classes, each with the protocol that it has here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.evaluation.bootstrap import SLOW_RESAMPLES, frechet_interval, inception_interval
from pipelines.evaluation.feature_networks import NetworkNote
from pipelines.evaluation.groups import Metric, Row
from pipelines.evaluation.measure import unpacked
from pipelines.evaluation.metrics import GaussianStatistics, inception_score
from pipelines.evaluation.protocol import IS_SPLITS, cd_fvd_name, fvd_name, inception_score_name

BOOTSTRAP = (
    f"interval: bootstrap over clips, {SLOW_RESAMPLES} resamples, percentiles moved so that their mean is "
    "the value"
)


@dataclass(frozen=True)
class Compared:
    """What is compared with what: as far as papers say it, published numbers are held against this.

    sizes: HEIGHTxWIDTH. real_videos: the lists that they are from.
    """

    prompts: str
    first_frame: str
    fvd_clips: int
    is_clips: int | None
    frames: int
    fps: float
    drawn_size: str
    compared_size: str
    real_videos: str
    seed: int

    @property
    def prefix(self) -> str:
        """Of the metrics' names: text to video, or image to video."""
        return "ucf101_" if self.first_frame == "drawn from text" else "ucf101_i2v_"

    def said(self) -> str:
        return (
            f"prompts: {self.prompts}; first frame: {self.first_frame}; classes in the proportion of the "
            f"real videos; drawn at {self.drawn_size}, as read from mp4 files, first {self.frames} frames"
        )


def metrics_of(
    drawn: Sequence[Row], real: Sequence[Row], compared: Compared, notes: Mapping[str, NetworkNote]
) -> list[Metric]:
    """drawn, real: rows with features of the same networks, of which `notes` say what they are."""
    seen = drawn[0]["features"]
    metrics = []
    for network, name in (("i3d", fvd_name), ("videomae", cd_fvd_name)):
        if network in seen:
            metrics.append(
                _distance(drawn, real, compared, network, notes[network], name(compared.fvd_clips))
            )
    if "c3d" in seen:
        metrics += _inception(drawn, compared, notes["c3d"])
    return metrics


def _distance(
    drawn: Sequence[Row],
    real: Sequence[Row],
    compared: Compared,
    network: str,
    note: NetworkNote,
    name: str,
) -> Metric:
    """Of the first clips of both, which are in proportion by themselves."""
    one, other = (unpacked(list(rows[: compared.fvd_clips]), network) for rows in (drawn, real))
    width = one.shape[1]
    value = GaussianStatistics(width).update(one).distance(GaussianStatistics(width).update(other))
    return _metric(
        compared.prefix + name,
        value,
        f"Fréchet distance of Gaussians over {network} features of {compared.fvd_clips} drawn and as many "
        f"real clips; real: {compared.real_videos}, one clip a video from a random start, sampled by time at "
        f"the drawn videos' rate; {compared.said()}; {BOOTSTRAP}",
        compared.fvd_clips,
        compared,
        note,
        frechet_interval(one, other, compared.seed, paired=False),
    )


def _inception(drawn: Sequence[Row], compared: Compared, note: NetworkNote) -> Iterator[Metric]:
    """Over all drawn clips in a shuffled order; none of fewer clips than splits."""
    if len(drawn) < IS_SPLITS:
        return
    table = unpacked(list(drawn), "c3d").astype(np.float64)
    table = table[np.random.default_rng(compared.seed).permutation(len(table))]
    table /= table.sum(1, keepdims=True)  # float32 of the network: to the last digit
    yield _metric(
        compared.prefix + inception_score_name(len(table)),
        inception_score(table, IS_SPLITS),
        f"inception score, C3D of UCF101, {IS_SPLITS} splits of shuffled clips, mean of splits; "
        f"{compared.said()}; {BOOTSTRAP}",
        len(table),
        compared,
        note,
        inception_interval(table, IS_SPLITS, compared.seed),
    )


def _metric(
    name: str,
    value: float,
    protocol: str,
    samples: int,
    compared: Compared,
    note: NetworkNote,
    interval: tuple[float, float],
) -> Metric:
    return Metric(
        name=name,
        value=value,
        protocol=protocol,
        samples=samples,
        frames=compared.frames,
        fps=compared.fps,
        resize=f"to cover {compared.compared_size}, middle cut out, by area when smaller; {note.resize}",
        seed=compared.seed,
        feature_network_sha256=note.sha256,
        interval=interval,
    )
