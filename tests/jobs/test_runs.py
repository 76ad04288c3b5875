"""`dreamer runs`, on a run that was really trained."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.score import scores_path, scoring_fingerprint
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.run_clean import CleaningError, find_removals
from pipelines.run_list import list_runs
from pipelines.training.checkpoint import whole_checkpoints
from pipelines.training.plan import plan_stages
from pipelines.workflow import write_recipe
from tests.pipelines.training import training_world as world

STAGE = {
    "name": "low",
    "tier": "low",
    "steps": 3,
    "learning_rate": 1e-3,
    "trainable": ["temporal_modules.*"],
}
OTHER = "0" * 8  # a stamp of other settings
SHARD, SCORES = "data/shards/4x32x32", "data/scores"
OLD = {
    f"{SHARD}/00000-{OTHER}-000.parquet": "old shards",
    f"{SCORES}/00000-{OTHER}.parquet": "old scores",
    f"data/captions/00000-{OTHER}.parquet": "old caption splits",
    "train/first-2-steps/low/model/model_index.json": "trials",
    f"{SHARD}/.00001-{OTHER}-000.parquet.partial": "unfinished files",
    "train/low/.log.jsonl.partial": "unfinished files",
    "train/low/checkpoints/step-00000009/.rank-00000.safetensors.partial": "unfinished files",
    ".summary.json.partial": "unfinished files",
}
NEEDED = (
    f"{SCORES}/00001-{OTHER}.parquet",  # no score file of today's settings for this unit
    f"{SHARD}/notes.parquet",  # nothing that curation wrote
)
BYTES = 1000


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("runs")
    models = world.build_models(folder / "models")
    recipe = world.recipe(
        folder / "run", models, stages=[STAGE], checkpoint_every_steps=1, keep_checkpoints=3
    )
    world.write_data(recipe, {"4x32x32": 4}, validation=0)
    layout = RunLayout(folder / "run")
    write_recipe(recipe, layout)
    world.train_here(recipe)
    today = scores_path(layout, 0, scoring_fingerprint(recipe.curation))
    for name in (*OLD, *NEEDED, str(today.relative_to(layout.root))):
        path = layout.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * BYTES)
    books = {"files": {f"shards/4x32x32/00000-{OTHER}-000.parquet": BYTES, "clips/00000.parquet": 1}}
    (layout.data / "step.json").write_text(json.dumps(books))
    return recipe


def clean(run: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "jobs.cli", "runs", "clean", str(run), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return json.loads(done.stdout)


def files_of(run: Path) -> set[Path]:
    return {file for file in run.rglob("*") if file.is_file() and file.name != ".lock"}


def test_a_run_is_listed_with_how_far_it_is(trained: Recipe) -> None:
    run = Path(trained.run_directory)
    (state,) = list_runs(run.parent)
    assert (state.run, state.recipe, state.clips) == (str(run), "test", 4)
    assert state.stages == [{"name": "low", "steps": 3, "of": 3, "finished": True}]
    frozen = run / "train" / "low" / "checkpoints" / ".frozen.safetensors"
    sizes = sum(file.lstat().st_size for file in run.rglob("*") if file.is_file())
    links = frozen.stat().st_nlink - 1  # one in each of three checkpoints
    assert links == 3
    assert state.bytes == sizes - links * frozen.stat().st_size


def test_clean_deletes_what_is_superseded_and_nothing_else(trained: Recipe) -> None:
    run = Path(trained.run_directory)
    checkpoints = run / "train" / "low" / "checkpoints"
    kinds = {str(removal.path.relative_to(run)): removal.kind for removal in find_removals(run)}
    for name, kind in OLD.items():
        assert any(kinds.get(str(path)) == kind for path in (Path(name), *Path(name).parents)), name
    before = files_of(run)

    asked = clean(run)
    assert asked["deleted"] is False  # nobody is there to answer
    assert files_of(run) == before

    with (run / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is at work" in clean(run, "--yes")["error"]

    spare = whole_checkpoints(checkpoints)[:-1]
    own_bytes = sum(f.stat().st_size for path in spare for f in path.iterdir() if f.stat().st_nlink == 1)
    done = clean(run, "--yes")
    assert done["deleted"] is True
    assert done["kinds"]["checkpoints"] == own_bytes  # the frozen weights have another name still
    assert done["bytes"] == own_bytes + BYTES * len(OLD)
    gone = before - files_of(run)
    expected = {run / name for name in OLD} | {file for file in before if set(spare) & set(file.parents)}
    assert gone == expected
    assert json.loads((run / "data" / "step.json").read_text())["files"] == {"clips/00000.parquet": 1}
    assert plan_stages(trained)[0].finished
    assert find_removals(run) == []


def test_a_stage_under_way_keeps_its_checkpoints(trained: Recipe) -> None:
    run = Path(trained.run_directory)
    longer = trained.train.model_copy(  # type: ignore[union-attr]
        update={"stages": (trained.train.stages[0].model_copy(update={"steps": 9}),)}  # type: ignore[union-attr]
    )
    write_recipe(trained.model_copy(update={"train": longer}), RunLayout(run))
    os.rename(run / "train" / "low" / "model", run / "train" / "low" / "hidden")
    assert not [removal for removal in find_removals(run) if removal.kind == "checkpoints"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CleaningError, match=r"no recipe\.yaml"):
        find_removals(tmp_path)
