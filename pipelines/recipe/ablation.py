"""What an ablation compares: arms that differ from the recipe in named settings."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from pipelines.recipe.base import FolderName, Settings

BASE_ARM = "full"  # the recipe as it is, which every arm is compared with


class Arm(Settings):
    title: str
    settings: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="section.key=value, laid over the recipe; `*` stands for every entry of a list"
    )


class AblateSettings(Settings):
    seeds: PositiveInt = Field(3, description="each arm is trained with the seeds from the recipe's on")
    metrics: Annotated[dict[str, Literal["higher", "lower"]], Field(min_length=1)] = Field(
        description="names in metrics.json, and which direction is better"
    )
    arms: Annotated[dict[FolderName, Arm], Field(min_length=1)]

    @model_validator(mode="after")
    def _base_is_free(self) -> Self:
        if BASE_ARM in self.arms:
            raise ValueError(f"arms: {BASE_ARM!r} is the name of the recipe as it is")
        return self
