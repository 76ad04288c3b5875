"""Several processes in one MLflow store."""

import subprocess
import sys
from pathlib import Path

OPEN = """
import sys
from pathlib import Path
from pipelines.recipe_file import load_recipe
from pipelines.tracking import open_experiment
go = Path(sys.argv[1], "go")
import mlflow.store.tracking.sqlalchemy_store
settings = (f"tracking.uri=sqlite:///{sys.argv[1]}/new/mlflow.db", "tracking.experiment=one")
recipe = load_recipe("demo", settings)
print("ready", flush=True)
while not go.exists():
    pass
print(open_experiment(recipe)[1])
"""


def test_processes_that_open_a_new_local_store_at_once_share_one_experiment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(said)) == 1
