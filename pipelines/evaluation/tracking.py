"""What an evaluation leaves in MLflow: parameters, metrics, pictures, videos and the data set."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.evaluation.reference import EvaluationClip
from pipelines.evaluation.summary import Metric as Measured
from pipelines.evaluation.summary import flat as numbers_of
from pipelines.progress import stderr_console
from pipelines.recipe import Recipe
from pipelines.tracking import log_params, open_experiment, recipe_params, tracking_uri

FILES = ("metrics.json", "clips.jsonl", "measures.jsonl", "grid.png", "grid.mp4", "grid.gif")


def log_evaluation(
    recipe: Recipe, folder: Path, metrics: Sequence[Measured], clips: Sequence[EvaluationClip], data: str
) -> dict[str, str]:
    """Log one run; returns {"uri", "run_id"}.

    The results lie in the folder already: whatever a tracking server or its artifact store does wrong is said
    on stderr and as {"uri", "error"}, it does not undo an evaluation.
    """
    try:
        return {"uri": tracking_uri(recipe), "run_id": _log(recipe, folder, metrics, clips, data)}
    except Exception as error:  # of any client library of any store
        stderr_console().print(f"the evaluation is whole in {folder}, but MLflow did not take it: {error}")
        return {"uri": tracking_uri(recipe), "error": str(error)}


def _log(
    recipe: Recipe, folder: Path, metrics: Sequence[Measured], clips: Sequence[EvaluationClip], data: str
) -> str:
    from mlflow.entities import Dataset, DatasetInput, Metric

    client, experiment = open_experiment(recipe)
    tags = {"dreamer.run_directory": recipe.run_directory}
    run_id = client.create_run(
        experiment, run_name=f"{recipe.name}: evaluate {folder.name}", tags=tags
    ).info.run_id
    log_params(client, run_id, recipe_params(recipe))
    now = int(time.time() * 1000)
    client.log_batch(
        run_id, metrics=[Metric(name, float(value), now, 0) for name, value in numbers_of(metrics).items()]
    )
    source = json.dumps({"table": recipe.data.table, "clips": len(clips)})
    held_out = Dataset(f"{recipe.name}, held out", data[:36], "clip table", source)
    client.log_inputs(run_id, datasets=[DatasetInput(held_out)])
    client.set_tag(run_id, "dreamer.data_fingerprint", data)
    for name in FILES:
        client.log_artifact(run_id, str(folder / name))
    client.log_artifacts(run_id, str(folder / "videos"), "videos")
    client.set_terminated(run_id)
    return run_id
