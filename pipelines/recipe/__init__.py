"""A recipe: everything that decides a run, as data.

Frozen models, one per component; pipelines.recipe_file reads them from YAML. Every field says its unit in its
name or its description.
"""

import os
from collections.abc import Callable
from typing import Any, Self

from pydantic import Field, model_validator

from pipelines.recipe.ablation import AblateSettings, Arm
from pipelines.recipe.base import Bucket, Place, RecipeError, Settings, parse_bucket
from pipelines.recipe.curation import (
    CaptionSettings,
    Columns,
    CurationSettings,
    DataSettings,
    DecodeSettings,
    FilterSettings,
    ImageScoreSettings,
    PrecomputeSettings,
    ShotSettings,
)
from pipelines.recipe.evaluation import (
    EvaluateSettings,
    EvaluationSet,
    FeatureNetworkSettings,
    NetworkFile,
    SamplingSettings,
)
from pipelines.recipe.model import ModelPaths, ModelSettings, ScheduleSettings
from pipelines.recipe.training import OWN_CLIPS, StageSettings, TrainSettings

__all__ = [
    "OWN_CLIPS",
    "AblateSettings",
    "Arm",
    "Bucket",
    "CaptionSettings",
    "Columns",
    "CurationSettings",
    "DataSettings",
    "DecodeSettings",
    "EvaluateSettings",
    "EvaluationSet",
    "FeatureNetworkSettings",
    "FilterSettings",
    "ImageScoreSettings",
    "ModelPaths",
    "ModelSettings",
    "NetworkFile",
    "PrecomputeSettings",
    "Recipe",
    "RecipeError",
    "SamplingSettings",
    "ScheduleSettings",
    "Settings",
    "ShotSettings",
    "StageSettings",
    "TrackingSettings",
    "TrainSettings",
    "parse_bucket",
    "with_absolute_paths",
]


class TrackingSettings(Settings):
    uri: str | None = Field(
        None,
        description="MLflow tracking URI, in which ${NAME} stands for a variable of the environment; "
        "default: SQLite in the run directory",
    )
    experiment: str = "factorized-dreamer"


class Recipe(Settings):
    name: str
    run_directory: Place
    seed: int = 0
    data: DataSettings
    curation: CurationSettings
    models: ModelPaths
    model: ModelSettings = ModelSettings()
    train: TrainSettings | None = None
    evaluate: EvaluateSettings | None = None
    ablate: AblateSettings | None = None
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _tiers_exist(self) -> Self:
        used = [(f"train.stages.{s.name}", s.tier) for s in (self.train.stages if self.train else ())]
        used += [("evaluate", self.evaluate.tier)] if self.evaluate else []
        for where, tier in used:
            if tier not in self.curation.tiers:
                raise ValueError(
                    f"{where}: tier {tier!r} is none of curation.tiers {sorted(self.curation.tiers)}"
                )
        return self

    @model_validator(mode="after")
    def _flow_has_a_network(self) -> Self:
        wanted = [s.name for s in (self.train.stages if self.train else ()) if s.predict_flow]
        if wanted and not self.model.predict_net:
            raise ValueError(f"stage {wanted[0]} has predict_flow=true, but model.predict_net is false")
        return self

    @model_validator(mode="after")
    def _labels_are_kept(self) -> Self:
        label = self.evaluate.motion_labels if self.evaluate else None
        if label is not None and label not in self.data.columns.labels:
            raise ValueError(f"evaluate.motion_labels: {label!r} is none of data.columns.labels")
        return self


def _absolute_networks(
    networks: FeatureNetworkSettings, absolute: Callable[[str | None], str | None]
) -> FeatureNetworkSettings:
    files = {
        name: file.model_copy(update={"file": absolute(file.file)})
        for name in ("i3d", "c3d", "lpips")
        if (file := getattr(networks, name)) is not None
    }
    return networks.model_copy(update={**files, "videomae": absolute(networks.videomae)})


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with paths that mean the same in every process and folder; addresses stay as they are."""

    def absolute(path: str | None) -> str | None:
        return path if path is None or "://" in path else os.path.abspath(path)

    data: dict[str, Any]
    data = {name: absolute(getattr(recipe.data, name)) for name in ("table", "root", "exclude_sources")}
    data["more_roots"] = tuple(absolute(root) for root in recipe.data.more_roots)
    models = {name: absolute(path) for name, path in recipe.models.model_dump().items()}
    captions = {"model": absolute(recipe.curation.captions.model)}
    shots = recipe.curation.shots.model_copy(update={"weights": absolute(recipe.curation.shots.weights)})
    image_scores = {name: absolute(path) for name, path in recipe.curation.image_scores.model_dump().items()}
    train = recipe.train
    if train is not None:
        datasets = {name: absolute(path) for name, path in train.datasets.items()}
        train = train.model_copy(update={"starts_from": absolute(train.starts_from), "datasets": datasets})
    evaluate = recipe.evaluate
    if evaluate is not None:
        networks = _absolute_networks(evaluate.networks, absolute)
        evaluate = evaluate.model_copy(
            update={"networks": networks, "watermark": absolute(evaluate.watermark)}
        )
    return recipe.model_copy(
        update={
            "train": train,
            "evaluate": evaluate,
            "run_directory": absolute(recipe.run_directory),
            "data": recipe.data.model_copy(update=data),
            "curation": recipe.curation.model_copy(
                update={
                    "captions": recipe.curation.captions.model_copy(update=captions),
                    "shots": shots,
                    "image_scores": recipe.curation.image_scores.model_copy(update=image_scores),
                }
            ),
            "models": recipe.models.model_copy(update=models),
        }
    )
