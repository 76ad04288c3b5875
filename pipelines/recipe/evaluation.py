"""How videos are drawn, and which are judged."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipelines.recipe.base import FolderName, Fraction, Settings, refuse_doubles


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
    """Held-out clips: their first frame and motion caption go in, their frames are the reference."""

    name: FolderName
    split: str
    clips: PositiveInt


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
    dynamic_threshold: PositiveFloat = Field(
        0.05, description="short sides per second that the fastest 5 % of pixels move in a dynamic video"
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
