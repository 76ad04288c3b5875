"""Finished models as versions in MLflow's registry.

A version holds what training made, the pipeline folder and its recipe, as artifacts of the run that trained
it. Gigabytes are never copied on the way: into a store on this disk the files are hard-linked (a pipeline
folder is replaced as a whole, never written to), into any other they are sent from where they lie. The
text-to-image model, which training does not change, stays where the recipe names it.
"""

import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from pipelines.cache import kept_folder
from pipelines.files import link_or_copy
from pipelines.recipe import Recipe, TrackingSettings, with_absolute_paths

FINGERPRINT = "dreamer.fingerprint"
# What loads and draws; the package itself is on no index and is not listed.
REQUIREMENTS = ("mlflow", "torch", "diffusers", "transformers", "safetensors", "einops", "av", "pillow")


@dataclass(frozen=True)
class FinishedModel:
    """A pipeline folder, the MLflow run that trained it, and the fingerprint of all that decided it."""

    folder: Path
    run_id: str
    fingerprint: str
    tags: dict[str, str]

    @property
    def artifact(self) -> str:
        """Folder within the run's artifacts; another model of the same run has another."""
        return f"model-{self.fingerprint[:12]}"

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def registered_name(recipe: Recipe) -> str:
    """The recipe's name, without what MLflow does not take in one."""
    return re.sub(r"[^\w .-]", "-", recipe.name)


def register(client: Any, recipe: Recipe, model: FinishedModel, sending: Callable[[int], None]) -> str:
    """The model's version in the registry; made unless this run has one of this fingerprint.

    sending: called with the bytes that go over the network, before they do. Raises what MLflow raises; what
    was sent by then is not sent again.
    """
    name = registered_name(recipe)
    for known in client.search_model_versions(f"name = '{name}' and run_id = '{model.run_id}'"):
        if known.tags.get(FINGERPRINT) == model.fingerprint:
            return known.version
    model = replace(model, folder=kept_folder(model.folder))
    artifacts = client.get_run(model.run_id).info.artifact_uri
    with tempfile.TemporaryDirectory(prefix="dreamer-model-") as temporary:
        described = _describe(Path(temporary), recipe, model)
        client.log_artifacts(model.run_id, str(described), model.artifact)
    _hand_over(client, model, artifacts, f"{model.artifact}/artifacts/{model.folder.name}", sending)
    _ensure_name(client, name)
    made = client.create_model_version(
        name,
        f"{artifacts.rstrip('/')}/{model.artifact}",
        model.run_id,
        tags={FINGERPRINT: model.fingerprint, **model.tags},
        description=f"EMA weights that recipe {recipe.name!r} trained in {recipe.run_directory}",
    )
    return made.version


def _describe(folder: Path, recipe: Recipe, model: FinishedModel) -> Path:
    """MLflow's folder of the model, with all of it but the weights."""
    import mlflow.pyfunc

    from pipelines.evaluation.registered import CODE, MODEL_CONFIG, PIPELINE, RECIPE, signature

    # The store's address is of no use in a version of it, and may hold a password.
    told = with_absolute_paths(recipe).model_copy(update={"tracking": TrackingSettings()})
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(yaml.safe_dump(told.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    stand_in = folder / "stand-in" / model.folder.name  # MLflow copies twice what it is given here
    stand_in.mkdir(parents=True)
    shutil.copy(model.folder / "model_index.json", stand_in)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it would like an example to run the model on
        mlflow.pyfunc.save_model(
            folder / "described",
            python_model=str(CODE),
            artifacts={PIPELINE: str(stand_in), RECIPE: str(recipe_file)},
            model_config=MODEL_CONFIG,
            signature=signature(),
            pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
        )
    return folder / "described"


def _hand_over(
    client: Any, model: FinishedModel, artifacts: str, place: str, sending: Callable[[int], None]
) -> None:
    """Put the pipeline folder's files under `place` of the run's artifacts."""
    files = [file for file in sorted(model.folder.rglob("*")) if file.is_file()]
    if (store := local_folder(artifacts)) is not None:
        for file in files:
            _link(file, store / place / file.relative_to(model.folder))
        return
    sending(model.bytes)
    for file in files:
        folder = (Path(place) / file.relative_to(model.folder).parent).as_posix()
        there = {
            Path(found.path).name: found.file_size for found in client.list_artifacts(model.run_id, folder)
        }
        if there.get(file.name) != file.stat().st_size:
            client.log_artifact(model.run_id, str(file), folder)


def local_folder(uri: str) -> Path | None:
    """The folder that an artifact URI names, if it is one of this machine."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    link_or_copy(source, target)


def _ensure_name(client: Any, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Videos from prompts, trained by Factorized-Dreamer")
