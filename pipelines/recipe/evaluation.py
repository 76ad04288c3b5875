"""How videos are drawn, and which are judged."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipelines.recipe.base import FolderName, Fraction, Settings, refuse_doubles
from pipelines.secrets import without_secrets


class SamplingSettings(Settings):
    steps: PositiveInt = 25
    scheduler: Literal["ddim", "dpmsolver++", "unipc"] = "ddim"
    guidance_scale_text: float = 7.5
    guidance_scale_image: float = 1.0
    guidance_rescale: Fraction = 0.7
    motion_score: float | None = Field(
        None, description="how much shall move, as in the clip table; null: not told"
    )


class EvaluationSet(Settings):
    """What is drawn and measured, in one of two kinds.

    split: held-out clips; their first frame and motion caption go in, their frames are the reference.
    images: given images with motion captions; there is no real video.
    """

    name: FolderName
    split: str | None = None
    images: str | None = Field(
        None,
        description="table with the columns prompt, image and motion, as `dreamer generate --prompts` takes "
        "it, and the column of motion_labels if it has one; relative to the folder of data.table",
    )
    clips: PositiveInt

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if (self.split is None) == (self.images is None):
            raise ValueError(f"the set {self.name!r} needs a split of the clip table, or a table of images")
        return self


class NetworkFile(Settings):
    """A TorchScript file, pinned."""

    file: str = Field(description="path, or https, s3 or gs address, which is fetched once")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="of the file, 64 hex digits as `sha256sum` prints them"
    )

    @property
    def shown(self) -> str:
        """The file in messages."""
        return without_secrets(self.file)


class FeatureNetworkSettings(Settings):
    """Networks that videos are judged through; a metric without its network is not computed."""

    i3d: NetworkFile | None = Field(None, description="StyleGAN-V's i3d_torchscript.pt, for FVD")
    c3d: NetworkFile | None = Field(None, description="StyleGAN-V's c3d_ucf101.pt, for the inception score")
    lpips: NetworkFile | None = Field(
        None, description="LPIPS traced to TorchScript, for the first frame's fidelity"
    )
    videomae: str | None = Field(
        None, description="VideoMAEForVideoClassification folder, for content-debiased FVD"
    )


class EvaluateSettings(Settings):
    tier: str
    sets: Annotated[tuple[EvaluationSet, ...], Field(min_length=1)]
    untrained_clips: Annotated[int, Field(ge=0)] = Field(
        0, description="clips that the untrained model draws too, as the floor of every metric"
    )
    motion_labels: str | None = Field(
        None,
        description="label column that lists a clip's objects: motion, and box in the first frame",
    )
    networks: FeatureNetworkSettings = FeatureNetworkSettings()
    allow_few_clips: bool = Field(
        False,
        description="FVD of fewer than 2,048 clips and IS of fewer than 10,000, named with their number",
    )
    dynamic_threshold: PositiveFloat = Field(
        0.05, description="short sides per second that the fastest 5 % of pixels move in a dynamic video"
    )
    watermark: str | None = Field(
        None,
        description="picture of a known watermark alone, light on black, as large as the videos with it; "
        "the drawn ones are searched for it",
    )
    batch_clips: PositiveInt = 16
    workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    sampling: SamplingSettings = SamplingSettings()

    @model_validator(mode="after")
    def _sets_differ(self) -> Self:
        refuse_doubles("sets", [each.name for each in self.sets])
        return self
