"""Finished models in MLflow's registry, and the status of its runs: real MLflow, SQLite."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.tracking import tracking_uri
from pipelines.training import watch
from pipelines.training.plan import plan_stages
from pipelines.training.run import send_late
from pipelines.training.tracking import Tracker, is_sent
from tests.pipelines.training import training_world as world

STAGE = {
    "name": "low",
    "tier": "low",
    "steps": 2,
    "learning_rate": 1e-3,
    "trainable": ["temporal_modules.*"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, training_models: dict[str, str]) -> Recipe:
    """A recipe whose training is finished; MLflow knows nothing of it."""
    recipe = world.recipe(
        tmp_path_factory.mktemp("registry") / "run",
        training_models,
        stages=[STAGE],
        sample_every_steps=1,
        sample_clips=1,
    )
    recipe = recipe.model_copy(update={"name": "stars: red/blue"})
    world.write_data(recipe, {"4x32x32": 4}, validation=1)
    world.train_here(recipe)
    return recipe


@pytest.fixture
def client(trained: Recipe, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Of a registry that has this training once."""
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    Tracker(trained, plan_stages(trained)).send()
    mlflow.set_tracking_uri(tracking_uri(trained))
    return MlflowClient(tracking_uri(trained))


NAME = "stars- red-blue"  # MLflow takes neither : nor / in a name


def test_a_finished_training_is_one_version_with_its_run_and_fingerprint(
    trained: Recipe, client: MlflowClient
) -> None:
    Tracker(trained, plan_stages(trained)).send()
    state = Path(trained.run_directory) / "train" / "mlflow.json"
    known = json.loads(state.read_text())
    state.write_text(json.dumps(known | {"models": {}}))  # killed before it was written down
    tracker = Tracker(trained, plan_stages(trained))
    tracker.send()
    (version,) = client.search_model_versions(f"name = '{NAME}'")
    assert tracker.registered == {"name": NAME, "version": str(version.version)}
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] > 0
    assert version.tags["dreamer.steps"] == "2"
    assert len(version.tags["dreamer.fingerprint"]) == 64
    told = client.get_run(known["parent"]).data.params
    assert told["train.global_batch_clips"] == "4"
    assert "tracking.uri" not in told  # it may hold a password
    assert is_sent(trained)


def test_samples_are_artifacts_of_the_stage(trained: Recipe, client: MlflowClient) -> None:
    state = json.loads((Path(trained.run_directory) / "train" / "mlflow.json").read_text())
    found = client.list_artifacts(state["stages"]["low"]["run_id"], "samples")
    assert [Path(file.path).name for file in found] == [
        f"step-0000000{step}.{kind}" for step in (1, 2) for kind in ("mp4", "png")
    ]


def test_a_trial_is_not_registered(trained: Recipe, client: MlflowClient) -> None:
    (plan,) = plans = plan_stages(trained, limit_steps=1)
    plan.model.mkdir(parents=True)
    (plan.model / "training.json").write_text(json.dumps({"identity": plan.identity, "step": 1}))
    (plan.folder / "log.jsonl").write_text(json.dumps({"step": 1, "loss": 1.0}) + "\n")
    tracker = Tracker(trained, plans)
    tracker.send()
    assert tracker.registered is None
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1


def test_registering_on_this_disk_takes_no_room(trained: Recipe, client: MlflowClient) -> None:
    layout = RunLayout(Path(trained.run_directory))
    weights = layout.model("low") / "unet" / "diffusion_pytorch_model.safetensors"
    (copy,) = (layout.root / "mlflow_artifacts").rglob("unet/diffusion_pytorch_model.safetensors")
    assert copy.samefile(weights)


def test_a_registered_model_draws_videos_for_rows_of_prompts(
    trained: Recipe, client: MlflowClient, tmp_path: Path
) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}/1", model_config={"out": str(tmp_path / "out")})
    rows = [{"prompt": "a red star", "motion": "star moves left", "seed": 7}, {"prompt": "a star"}]
    drawn = model.predict(pd.DataFrame(rows), params={"steps": 2, "frames": 5})
    assert list(drawn["seed"]) == [7, 0]
    assert [Path(path).parent for path in drawn["video"]] == [tmp_path / "out"] * 2
    from pipelines.media import read_mp4

    assert read_mp4(Path(drawn["video"][0]))[0].shape == (5, 32, 32, 3)
    again = model.predict(rows[:1], params={"steps": 2})
    assert read_mp4(Path(again["video"][0]))[0].shape == (4, 32, 32, 3)  # the bucket's length
    assert not list((Path(trained.run_directory) / "mlflow_artifacts").rglob("*.pkl"))


def test_a_row_that_cannot_be_drawn_is_named(client: MlflowClient) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    with pytest.raises(Exception, match="row 2: the prompt is empty"):
        model.predict([{"prompt": "a star"}, {"prompt": " "}])


def test_what_a_silent_server_missed_is_sent_when_the_training_is_skipped(trained: Recipe) -> None:
    elsewhere = f"sqlite:///{Path(trained.run_directory).parent / 'other.db'}"
    tracking = trained.tracking.model_copy(update={"uri": elsewhere})
    moved = trained.model_copy(update={"tracking": tracking})
    assert not is_sent(moved)
    send_late(moved)
    assert is_sent(moved)
    assert len(MlflowClient(elsewhere).search_model_versions(f"name = '{NAME}'")) == 1


def test_a_silent_server_delays_training_by_no_more_than_the_last_send(
    trained: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "LAST_SEND_SECONDS", 0.5)
    tracking = trained.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})
    silent = trained.model_copy(update={"tracking": tracking})
    assert watch.send_all(silent, plan_stages(silent)) is None
    assert "does not answer" in " ".join(capsys.readouterr().err.split())


def _stage_run(recipe: Recipe) -> str:
    state = json.loads((Path(recipe.run_directory) / "train" / "mlflow.json").read_text())
    return state["stages"]["low"]["run_id"]


def _status(recipe: Recipe) -> tuple[str, str]:
    """Of the recipe's run and of its stage's."""
    client = MlflowClient(tracking_uri(recipe))
    state = json.loads((Path(recipe.run_directory) / "train" / "mlflow.json").read_text())
    runs = state["parent"], state["stages"]["low"]["run_id"]
    return tuple(client.get_run(run).info.status for run in runs)  # type: ignore[return-value]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_a_command_that_ends_early_leaves_no_run_running(
    tmp_path: Path, training_models: dict[str, str], error: type[BaseException], status: str
) -> None:
    recipe = world.recipe(tmp_path / "run", training_models, stages=[STAGE])
    world.write_data(recipe, {"4x32x32": 4}, validation=0)
    plans = plan_stages(recipe)
    log = plans[0].folder / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({"step": 1, "loss": 1.0, "samples_per_second": 1.0}) + "\n")
    with pytest.raises(error), watch.watching(recipe, plans, 0.0):
        raise error
    assert _status(recipe) == (status, status)

    Tracker(recipe, plans).send()  # the same command goes on with it
    assert _status(recipe) == ("RUNNING", "RUNNING")

    stage = recipe.train.stages[0].model_copy(update={"learning_rate": 2e-3})  # type: ignore[union-attr]
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update={"stages": (stage,)})})  # type: ignore[union-attr]
    before = _stage_run(recipe)
    Tracker(other, plan_stages(other)).send()  # its folder was deleted, and it is trained anew
    assert _stage_run(recipe) != before
    assert MlflowClient(tracking_uri(recipe)).get_run(before).info.status == "KILLED"
