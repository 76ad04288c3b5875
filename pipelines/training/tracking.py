"""MLflow from the driver: one run per stage under one per recipe, fed from the logs that training leaves.

log.jsonl is the truth; what MLflow has is a copy that may come late. A server that does not answer delays
nothing: what was not sent is sent when it answers again, or by the next `dreamer train` of the recipe.
"""

import json
import time
from pathlib import Path
from typing import Any

from pipelines.files import write_json
from pipelines.fingerprint import fingerprint, recipe_fingerprint
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.registry import FinishedModel, register, registered_name
from pipelines.tracking import flat, log_params, open_experiment, recipe_params, tracking_uri
from pipelines.training.log import read_log
from pipelines.training.plan import StagePlan
from pipelines.training.samples import sample_files

EVERY_STEPS = 10
METRICS_PER_REQUEST = 900  # MLflow takes 1,000
COLUMNS = (
    "loss",
    "loss_diffusion",
    "loss_flow",
    "learning_rate",
    "grad_norm",
    "clip_ratio",
    "samples_per_second",
    "model_tflops",
    "mfu",
    "peak_memory_gb",
    "seconds_total",
    "seconds_data",
)


class Tracker:
    """Copies what the stages' logs have beyond what MLflow has. State: `train/mlflow.json`.

    A stage's MLflow run is RUNNING while its stage is trained, FINISHED with its model, and KILLED or FAILED
    when the command ends otherwise, until another command goes on with it.
    """

    def __init__(self, recipe: Recipe, plans: list[StagePlan]) -> None:
        self.recipe, self.plans = recipe, plans
        self.path = RunLayout.of(recipe).root / "train" / "mlflow.json"
        self.client: Any = None
        self.experiment = ""
        self.state: dict[str, Any] = {"uri": tracking_uri(recipe), "parent": None, "stages": {}}
        self.bytes_to_send = 0  # of the model, over the network

    def send(self, outcome: str | None = None) -> None:
        """Send what is new; with an `outcome` (KILLED, FAILED), also that the command ended so.

        Raises what MLflow raises; then nothing is lost and it may be called again.
        """
        if self.client is None:
            self._connect()
        for plan in self.plans:
            lines = read_log(plan.folder / "log.jsonl")
            if lines:
                self._send_stage(plan, lines, outcome)
        finished = all(plan.finished for plan in self.plans)
        self._set_status(self.state, self.state["parent"], "FINISHED" if finished else outcome or "RUNNING")
        if finished and not self.plans[-1].is_trial:
            self._register(self.plans[-1])
            self.state["sent"] = model_stamp(self.plans[-1])
        self._save()

    @property
    def registered(self) -> dict[str, str] | None:
        """{"name", "version"} of the model in MLflow's registry, if it is there."""
        plan = self.plans[-1]
        made = plan.finished and not plan.is_trial
        version = self.state.get("models", {}).get(model_stamp(plan)) if made else None
        return None if version is None else {"name": registered_name(self.recipe), "version": version}

    def _connect(self) -> None:
        client, self.experiment = open_experiment(self.recipe)
        known = read_state(self.path)
        if known.get("uri") == self.state["uri"] and _run_exists(client, known["parent"]):
            self.state = known
        if self.state["parent"] is None:
            parent = self._create(client, f"{self.recipe.name}: train", {})
            log_params(client, parent, recipe_params(self.recipe))
            self.state["parent"] = parent
            self._save()
        self.client = client

    def _send_stage(self, plan: StagePlan, lines: list[dict[str, Any]], outcome: str | None) -> None:
        known = self._stage_run(plan)
        metrics = step_metrics(lines, known["step"], plan.steps)
        checks = [
            line
            for line in read_log(plan.folder / "validation.jsonl")
            if line["step"] > known["validation_step"]
        ]
        metrics += validation_metrics(checks)
        for first in range(0, len(metrics), METRICS_PER_REQUEST):
            self.client.log_batch(known["run_id"], metrics=metrics[first : first + METRICS_PER_REQUEST])
        known["step"] = max(known["step"], lines[-1]["step"])
        known["validation_step"] = max([known["validation_step"], *(line["step"] for line in checks)])
        self._send_samples(plan, known)
        self._set_status(known, known["run_id"], "FINISHED" if plan.finished else outcome or "RUNNING")

    def _stage_run(self, plan: StagePlan) -> dict[str, Any]:
        """What MLflow has of a stage: of the one that is trained now, not of one that was deleted."""
        key = str(plan.folder.relative_to(self.path.parent))
        identity = fingerprint(plan.identity)
        known = self.state["stages"].get(key)
        if known is None or known.get("identity", identity) != identity:
            if known is not None:
                self._set_status(known, known["run_id"], "KILLED")
            parent = {"mlflow.parentRunId": self.state["parent"]}
            run_id = self._create(self.client, f"{self.recipe.name}: train {key}", parent)
            log_params(self.client, run_id, flat({"stage": plan.stage.model_dump(mode="json")}))
            log_params(self.client, run_id, {"data_fingerprint": plan.identity["data"]})
            known = {"run_id": run_id, "step": 0, "validation_step": 0, "status": "RUNNING"}
            self.state["stages"][key] = known | {"identity": identity}
            self._save()
        return self.state["stages"][key]

    def _send_samples(self, plan: StagePlan, known: dict[str, Any]) -> None:
        for step, files in sample_files(plan.folder):
            if step > known.get("sample_step", 0):
                for file in files:
                    self.client.log_artifact(known["run_id"], str(file), "samples")
                known["sample_step"] = step

    def _register(self, plan: StagePlan) -> None:
        versions = self.state.setdefault("models", {})
        stamp = model_stamp(plan)
        if stamp in versions:
            return
        tags = {
            "dreamer.recipe_fingerprint": recipe_fingerprint(self.recipe),
            "dreamer.data_fingerprint": plan.identity["data"],
            "dreamer.run_directory": self.recipe.run_directory,
            "dreamer.steps": str(plan.steps),
        }
        model = FinishedModel(plan.model, self._stage_run(plan)["run_id"], stamp, tags)
        versions[stamp] = str(register(self.client, self.recipe, model, self._sending))
        self._save()

    def _sending(self, count: int) -> None:
        self.bytes_to_send = count

    def _set_status(self, known: dict[str, Any], run_id: str, status: str) -> None:
        if known.get("status") == status:
            return
        if status == "RUNNING":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status)
        known["status"] = status
        self._save()

    def _create(self, client: Any, name: str, tags: dict[str, str]) -> str:
        tags = {**tags, "dreamer.run_directory": self.recipe.run_directory}
        return client.create_run(self.experiment, run_name=name, tags=tags).info.run_id

    def _save(self) -> None:
        write_json(self.path, self.state)


def read_state(path: Path) -> dict[str, Any]:
    """What was sent where, as the last `send` left it; {} before the first."""
    return json.loads(path.read_text()) if path.is_file() else {}


def is_sent(recipe: Recipe) -> bool:
    """Whether MLflow has all of a finished training, as far as files tell: nothing is asked."""
    assert recipe.train is not None
    layout = RunLayout.of(recipe)
    state = read_state(layout.root / "train" / "mlflow.json")
    marker = layout.model(recipe.train.stages[-1].name) / "training.json"
    if not marker.is_file() or state.get("uri") != tracking_uri(recipe):
        return False
    return state.get("sent") == stamp_of(json.loads(marker.read_text()))


def model_stamp(plan: StagePlan) -> str:
    """Fingerprint of everything that decided a finished model."""
    return stamp_of({"identity": plan.identity, "step": plan.steps})


def stamp_of(training: dict[str, Any]) -> str:
    """The same, of a model's `training.json`."""
    return fingerprint(training["identity"], training["step"])


def step_metrics(lines: list[dict[str, Any]], after: int, last: int) -> list[Any]:
    """MLflow metrics of every tenth step after step `after`, and of the last one."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    due = [
        line
        for line in lines
        if line["step"] > after and (line["step"] % EVERY_STEPS == 0 or line["step"] == last)
    ]
    return [
        Metric(column, float(line[column]), now, line["step"])
        for line in due
        for column in COLUMNS
        if line.get(column) is not None  # there is no MFU on hardware of unknown peak
    ]


def validation_metrics(lines: list[dict[str, Any]]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(f"validation_{name}", float(value), now, line["step"])
        for line in lines
        for name, value in line.items()
        if name.startswith("loss")
    ]


def _run_exists(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException:
        return False
    return True
