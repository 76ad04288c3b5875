"""The files that a run leaves: the contract between the steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pipelines.storage import storage_path

if TYPE_CHECKING:
    from pipelines.recipe import Recipe


@dataclass(frozen=True)
class RunLayout:
    """Paths of everything in one run directory."""

    root: Path

    @classmethod
    def of(cls, recipe: "Recipe") -> Self:
        """Of a recipe's run directory, which may be on object storage."""
        return cls(storage_path(recipe.run_directory))

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def manifest(self) -> Path:
        return self.data / "manifest"

    @property
    def scores(self) -> Path:
        """What pass 1 found, before any verdict."""
        return self.data / "scores"

    @property
    def captions(self) -> Path:
        """What a language model made of captions."""
        return self.data / "captions"

    @property
    def clips(self) -> Path:
        return self.data / "clips"

    def shards(self, bucket: str) -> Path:
        return self.data / "shards" / bucket

    def stage(self, name: str) -> Path:
        return self.root / "train" / name

    def checkpoints(self, stage: str) -> Path:
        return self.stage(stage) / "checkpoints"

    def model(self, stage: str) -> Path:
        """The stage's result as a diffusers pipeline folder."""
        return self.stage(stage) / "model"

    def log(self, stage: str) -> Path:
        return self.stage(stage) / "log.jsonl"

    def evaluation(self, name: str) -> Path:
        return self.root / "evaluate" / name
