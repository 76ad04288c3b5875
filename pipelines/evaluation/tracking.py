"""What an evaluation leaves in MLflow: parameters, metrics, pictures, videos and the data set."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.evaluation.measure import video_path
from pipelines.evaluation.reference import EvaluationClip
from pipelines.evaluation.summary import Metric as Measured
from pipelines.evaluation.summary import flat
from pipelines.progress import stderr_console
from pipelines.recipe import Recipe
from pipelines.training.tracking import open_experiment, tracking_uri

VIDEOS_PER_SET = 16
FILES = ("metrics.json", "clips.jsonl", "measures.jsonl", "grid.png", "grid.mp4", "grid.gif")


def log_evaluation(
    recipe: Recipe, folder: Path, metrics: Sequence[Measured], clips: Sequence[EvaluationClip], data: str
) -> dict[str, str]:
    """Log one run; returns {"uri", "run_id"}.

    The results lie in the folder already: a tracking server that does not answer is said on stderr and as
    {"uri", "error"}, it does not undo an evaluation.
    """
    from mlflow.exceptions import MlflowException

    try:
        return {"uri": tracking_uri(recipe), "run_id": _log(recipe, folder, metrics, clips, data)}
    except MlflowException as error:
        stderr_console().print(f"the evaluation is whole in {folder}, but MLflow did not take it: {error}")
        return {"uri": tracking_uri(recipe), "error": str(error)}


def _log(
    recipe: Recipe, folder: Path, metrics: Sequence[Measured], clips: Sequence[EvaluationClip], data: str
) -> str:
    from mlflow.entities import Dataset, DatasetInput, Metric, Param

    client, experiment = open_experiment(recipe)
    tags = {"dreamer.run_directory": recipe.run_directory}
    run_id = client.create_run(
        experiment, run_name=f"{recipe.name}: evaluate {folder.name}", tags=tags
    ).info.run_id
    params = {
        **_flat(recipe.evaluate.model_dump(mode="json") if recipe.evaluate else {}),
        "seed": recipe.seed,
    }
    params |= {f"models.{name}": path for name, path in recipe.models.model_dump().items()}
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), now, 0) for name, value in flat(metrics).items()],
        params=[Param(name, str(value)[:6000]) for name, value in sorted(params.items())][:100],
    )
    source = json.dumps({"table": recipe.data.table, "clips": len(clips)})
    held_out = Dataset(f"{recipe.name}, held out", data[:36], "clip table", source)
    client.log_inputs(run_id, datasets=[DatasetInput(held_out)])
    client.set_tag(run_id, "dreamer.data_fingerprint", data)
    for name in FILES:
        client.log_artifact(run_id, str(folder / name))
    for clip in _some(clips):
        client.log_artifact(run_id, str(video_path(folder, "generated", clip)), f"videos/{clip.set}")
    client.set_terminated(run_id)
    return run_id


def _some(clips: Sequence[EvaluationClip]) -> list[EvaluationClip]:
    """The first clips of every set."""
    names = dict.fromkeys(clip.set for clip in clips)
    return [clip for name in names for clip in [c for c in clips if c.set == name][:VIDEOS_PER_SET]]


def _flat(tree: dict[str, Any], where: str = "evaluate") -> dict[str, Any]:
    """{"evaluate.sampling.steps": 20, …}."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{where}.{key}") if isinstance(value, dict) else {f"{where}.{key}": value}
    return leaves
