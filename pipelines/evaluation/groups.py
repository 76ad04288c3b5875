"""A number with its protocol, and the group of videos that it is of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.evaluation.bootstrap import Interval
from pipelines.evaluation.feature_networks import NetworkNote

Row = dict[str, Any]
REAL = "ground_truth"


@dataclass(frozen=True)
class Metric:
    """A number with its protocol; one without it is never written.

    resize: what frames go through before the feature network. interval: 95 %, by what the protocol says.
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
    few_clips: bool
    networks: Mapping[str, NetworkNote]
    classes: tuple[str, ...] = ()
    """What the video classifier tells apart."""


class Group:
    """The rows of one variant of one set, and what their metrics have in common."""

    def __init__(self, name: str, variant: str, rows: list[Row], setting: Setting) -> None:
        self.rows, self.variant, self.setting = rows, variant, setting
        self.suffix = ("" if variant == "generated" else f"_{variant}") + (
            "" if name == setting.first_set else f"_{name}"
        )

    def metric(
        self,
        name: str,
        value: float,
        protocol: str,
        interval: Interval | None,
        *,
        samples: int | None = None,
        frames: int | None = None,
        network: str | None = None,
    ) -> Metric:
        """samples, frames: those of the group's videos. network: what the videos are seen through."""
        note = self.setting.networks[network] if network is not None else None
        squeezed = "" if note is None or note.resize == "none" else f", {note.resize}"
        return Metric(
            name=name + self.suffix,
            value=value,
            protocol=protocol,
            samples=len(self.rows) if samples is None else samples,
            frames=self.rows[0]["frames"] if frames is None else frames,
            fps=self.setting.fps,
            resize=f"from {self.setting.size}{squeezed}",
            seed=self.setting.seed,
            feature_network_sha256=None if note is None else note.sha256,
            interval=interval,
        )
