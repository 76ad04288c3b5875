"""What a study leaves in MLflow: one run with its numbers and tables, beside those of the first run."""

import re
import time
from pathlib import Path
from typing import Any

from pipelines.layout import RunLayout
from pipelines.progress import stderr_console
from pipelines.recipe_file import load_recipe
from pipelines.secrets import without_secrets
from pipelines.study.plan import Study
from pipelines.tracking import flat, log_params, open_experiment, tracking_uri

FILES = ("study.json", "results.csv", "votes.csv")


def log_study(study: Study, folder: Path, summary: dict[str, Any]) -> dict[str, str]:
    """Log one run to the store of the first run's recipe; returns {"uri", "run_id"}.

    The results lie in the folder already: what goes wrong with the store, or a first run that is gone, is
    said on stderr and as {"error"}.
    """
    try:
        return _log(study, folder, summary)
    except Exception as error:  # of any client library of any store
        said = without_secrets(str(error))
        stderr_console().print(f"the results are whole in {folder}, but MLflow did not take them: {said}")
        return {"error": said}


def _log(study: Study, folder: Path, summary: dict[str, Any]) -> dict[str, str]:
    from mlflow.entities import Metric

    run = study.settings.runs[0]
    recipe = load_recipe(str(RunLayout(Path(run)).recipe), (f"run_directory={run}",))
    client, experiment = open_experiment(recipe)
    names = " against ".join(summary["runs"])
    run_id = client.create_run(experiment, run_name=f"{recipe.name}: study, {names}").info.run_id
    log_params(
        client, run_id, flat(study.settings.model_dump(mode="json")) | {"protocol": summary["protocol"]}
    )
    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, 0) for name, value in numbers(summary).items()]
    client.log_batch(run_id, metrics=metrics)
    for name in FILES:
        client.log_artifact(run_id, str(folder / name))
    client.set_terminated(run_id)
    return {"uri": tracking_uri(recipe), "run_id": run_id}


def numbers(summary: dict[str, Any]) -> dict[str, float]:
    """{"study/QUESTION/RUN/win_rate": …, "…/win_rate_low": …, "study/QUESTION/alpha": …}: those there are."""
    found: dict[str, float | None] = {
        "study/votes": summary["votes"],
        "study/raters": summary["raters"]["voted"],
    }
    for question, told in summary["questions"].items():
        found[f"study/{question}/agreement"] = told["agreement"]
        found[f"study/{question}/alpha"] = told["alpha"]
        for run, standing in told["standings"].items():
            name = re.sub(r"[^\w.-]", "_", run)  # what MLflow takes in names
            for measure in ("win_rate", "strength"):
                value, interval = standing[measure]["value"], standing[measure]["interval"]
                low, high = interval or (None, None)
                path = f"study/{question}/{name}/{measure}"
                found |= {path: value, f"{path}_low": low, f"{path}_high": high}
    return {name: value for name, value in found.items() if value is not None}
