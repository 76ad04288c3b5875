"""What an evaluation leaves in MLflow: parameters, metrics, pictures, videos and the data set."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.evaluation.groups import Metric as Measured
from pipelines.evaluation.reference import EvaluationClip
from pipelines.evaluation.summary import as_json
from pipelines.evaluation.summary import flat as numbers_of
from pipelines.progress import stderr_console
from pipelines.recipe import Recipe
from pipelines.secrets import without_secrets
from pipelines.tracking import log_params, open_experiment, recipe_params, tracking_uri

FILES = ("metrics.json", "clips.jsonl", "measures.jsonl", "grid.png", "grid.mp4", "grid.gif")
MLFLOW_RUN_NOTE = "mlflow.note.content"  # the tag that MLflow shows as a run's description
TAGS_PER_REQUEST, TAG_CHARACTERS = 100, 8000  # MLflow takes no more


@dataclass(frozen=True)
class DataNote:
    """What MLflow shows as the data set of a run. fingerprint: 64 hex digits. source: where it is from."""

    name: str
    fingerprint: str
    kind: str
    source: Mapping[str, Any]


def log_evaluation(
    recipe: Recipe, folder: Path, metrics: Sequence[Measured], clips: Sequence[EvaluationClip], data: str
) -> dict[str, str]:
    """`log_metrics` of held-out clips; data: their fingerprint."""
    source = {"table": recipe.data.table, "clips": len(clips)}
    note = DataNote(f"{recipe.name}, held out", data, "clip table", source)
    return log_metrics(recipe, folder, metrics, note, FILES)


def log_metrics(
    recipe: Recipe, folder: Path, metrics: Sequence[Measured], data: DataNote, files: Sequence[str]
) -> dict[str, str]:
    """Log one run with files of `folder` and its videos; returns {"uri", "run_id"}.

    The results lie in the folder already: whatever a tracking server or its artifact store does wrong is said
    on stderr and as {"uri", "error"}, it does not undo an evaluation. A run that was begun is marked FAILED.
    """
    try:
        return {"uri": tracking_uri(recipe), "run_id": _log(recipe, folder, metrics, data, files)}
    except Exception as error:  # of any client library of any store
        said = without_secrets(str(error))
        stderr_console().print(f"the evaluation is whole in {folder}, but MLflow did not take it: {said}")
        return {"uri": tracking_uri(recipe), "error": said}


def _log(
    recipe: Recipe, folder: Path, metrics: Sequence[Measured], data: DataNote, files: Sequence[str]
) -> str:
    client, experiment = open_experiment(recipe)
    tags = {
        "dreamer.run_directory": recipe.run_directory,
        "dreamer.data_fingerprint": data.fingerprint,
        MLFLOW_RUN_NOTE: description(metrics),
    }
    run_id: str = client.create_run(
        experiment, run_name=f"{recipe.name}: evaluate {folder.name}", tags=tags
    ).info.run_id
    try:
        _fill(client, run_id, recipe, folder, metrics, data, files)
    except BaseException:  # an interrupt too must not leave a run that seems to go on
        with suppress(Exception):  # of a store that does not answer: the first error is the one to tell
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id


def _fill(
    client: Any,
    run_id: str,
    recipe: Recipe,
    folder: Path,
    metrics: Sequence[Measured],
    data: DataNote,
    files: Sequence[str],
) -> None:
    from mlflow.entities import Dataset, DatasetInput, Metric, RunTag

    log_params(client, run_id, recipe_params(recipe))
    protocols = [RunTag(f"protocol.{metric.name}", protocol_of(metric)) for metric in metrics]
    for first in range(0, len(protocols), TAGS_PER_REQUEST):
        client.log_batch(run_id, tags=protocols[first : first + TAGS_PER_REQUEST])
    now = int(time.time() * 1000)
    client.log_batch(
        run_id, metrics=[Metric(name, float(value), now, 0) for name, value in numbers_of(metrics).items()]
    )
    dataset = Dataset(data.name, data.fingerprint[:36], data.kind, json.dumps(data.source))
    client.log_inputs(run_id, datasets=[DatasetInput(dataset)])
    for name in files:
        if name.endswith(".jsonl"):  # they name sources, whose addresses may be signed
            client.log_text(run_id, without_secrets((folder / name).read_text("utf-8")), name)
        else:
            client.log_artifact(run_id, str(folder / name))
    client.log_artifacts(run_id, str(folder / "videos"), "videos")


def protocol_of(metric: Measured) -> str:
    """All that metrics.json says of a metric, without its value: the tag `protocol.NAME` of a run."""
    (entry,) = as_json([metric])
    return json.dumps({key: value for key, value in entry.items() if key != "value"}, ensure_ascii=False)


def description(metrics: Sequence[Measured]) -> str:
    """The description on top of a run's page: a Markdown table of the first metrics that fit into it."""
    lines = [
        "Each metric's protocol is its tag `protocol.NAME`, and in the artifact `metrics.json`.",
        "",
        "| metric | value | 95 % interval | samples | frames | fps |",
        "|---|---|---|---|---|---|",
    ]
    for metric in metrics:
        interval = "" if metric.interval is None else "{:.4g} to {:.4g}".format(*metric.interval)
        lines.append(
            f"| {metric.name} | {metric.value:.4g} | {interval} | {metric.samples} | {metric.frames} | "
            f"{metric.fps:g} |"
        )
    while len("\n".join(lines)) > TAG_CHARACTERS:
        lines.pop()
    return "\n".join(lines)
