"""MLflow from the driver: one run per stage under one per recipe, fed from the logs that training leaves.

log.jsonl is the truth; what MLflow has is a copy that may come late. A server that does not answer delays
nothing: what was not sent is sent when it answers again, or by the next `dreamer train` of the recipe.
"""

import json
import time
from pathlib import Path
from typing import Any

from pipelines.recipe import Recipe
from pipelines.tracking import flat, log_params, open_experiment, tracking_uri
from pipelines.training.log import read_log
from pipelines.training.plan import StagePlan

EVERY_STEPS = 10
METRICS_PER_REQUEST = 900  # MLflow takes 1,000
COLUMNS = (
    "loss",
    "loss_diffusion",
    "loss_flow",
    "learning_rate",
    "grad_norm",
    "samples_per_second",
    "model_tflops",
    "peak_memory_gb",
    "seconds_total",
    "seconds_data",
)


class Tracker:
    """Copies what the stages' logs have beyond what MLflow has. State: `train/mlflow.json`."""

    def __init__(self, recipe: Recipe, plans: list[StagePlan]) -> None:
        self.recipe, self.plans = recipe, plans
        self.path = Path(recipe.run_directory) / "train" / "mlflow.json"
        self.client: Any = None
        self.experiment = ""
        self.state: dict[str, Any] = {"uri": tracking_uri(recipe), "parent": None, "stages": {}}

    def send(self) -> None:
        """Send what is new. Raises what MLflow raises; then nothing is lost and it may be called again."""
        if self.client is None:
            self._connect()
        for plan in self.plans:
            lines = read_log(plan.folder / "log.jsonl")
            if lines:
                self._send_stage(plan, lines)

    def _connect(self) -> None:
        client, self.experiment = open_experiment(self.recipe)
        if self.path.is_file():
            known = json.loads(self.path.read_text())
            if known["uri"] == self.state["uri"] and _run_exists(client, known["parent"]):
                self.state = known
        if self.state["parent"] is None:
            parent = self._create(client, f"{self.recipe.name}: train", {})
            log_params(client, parent, flat(self.recipe.model_dump(mode="json")))
            self.state["parent"] = parent
            self._save()
        self.client = client

    def _send_stage(self, plan: StagePlan, lines: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        key = str(plan.folder.relative_to(Path(self.recipe.run_directory) / "train"))
        if key not in self.state["stages"]:
            parent = {"mlflow.parentRunId": self.state["parent"]}
            run_id = self._create(self.client, f"{self.recipe.name}: train {key}", parent)
            log_params(self.client, run_id, flat({"stage": plan.stage.model_dump(mode="json")}))
            log_params(self.client, run_id, {"data_fingerprint": plan.identity["data"]})
            self.state["stages"][key] = {"run_id": run_id, "step": 0, "validation_step": 0, "finished": False}
            self._save()
        known = self.state["stages"][key]
        last = lines[-1]["step"]
        due = [
            n
            for n in lines
            if n["step"] > known["step"] and (n["step"] % EVERY_STEPS == 0 or n["step"] == plan.steps)
        ]
        now = int(time.time() * 1000)
        metrics = [Metric(c, float(line[c]), now, line["step"]) for line in due for c in COLUMNS]
        checks = [
            line
            for line in read_log(plan.folder / "validation.jsonl")
            if line["step"] > known["validation_step"]
        ]
        metrics += [
            Metric(f"validation_{name}", float(value), now, line["step"])
            for line in checks
            for name, value in line.items()
            if name.startswith("loss")
        ]
        for first in range(0, len(metrics), METRICS_PER_REQUEST):
            self.client.log_batch(known["run_id"], metrics=metrics[first : first + METRICS_PER_REQUEST])
        known["step"] = max(known["step"], last)
        known["validation_step"] = max([known["validation_step"], *(line["step"] for line in checks)])
        if plan.finished and not known["finished"]:
            self.client.set_terminated(known["run_id"])
            known["finished"] = True
            if (
                all(self.state["stages"].get(k, {}).get("finished") for k in self.state["stages"])
                and plan is self.plans[-1]
            ):
                self.client.set_terminated(self.state["parent"])
        if metrics:
            self._save()

    def _create(self, client: Any, name: str, tags: dict[str, str]) -> str:
        tags = {**tags, "dreamer.run_directory": self.recipe.run_directory}
        return client.create_run(self.experiment, run_name=name, tags=tags).info.run_id

    def _save(self) -> None:
        writing = self.path.with_name(".writing-mlflow.json")
        writing.write_text(json.dumps(self.state, indent=1))
        writing.rename(self.path)


def _run_exists(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException:
        return False
    return True
