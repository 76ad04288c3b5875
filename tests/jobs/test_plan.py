"""`dreamer plan` as a person and a script see it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ONE_STAGE = (
    "curation.tiers.low=[8x32x32]",
    "train.stages=[{name: only, tier: low, steps: 7, learning_rate: 1e-3}]",
)


def dreamer(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", "plan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory):
    """One plan of the stock recipe, as JSON."""
    run = tmp_path_factory.mktemp("none") / "run"
    options = ("--gpu", "l4", "--gpus", 2, "--clips", 5000, "--price-per-gpu-hour", 2, "--mfu", 0.5, "--json")
    done = dreamer("stock", *options, f"run_directory={run}", *ONE_STAGE)
    assert done.returncode == 0, done.stderr
    assert not run.exists()
    return json.loads(done.stdout)


def test_json_holds_the_whole_plan(plan):
    assert plan["assumed"]["mfu"] == 0.5
    assert plan["gpu"]["source"]
    (stage,) = plan["stages"]
    (bucket,) = stage["buckets"]
    assert stage["flop"] == pytest.approx(7 * 8 * bucket["clip_flop"])
    assert stage["money"] == pytest.approx(2 * stage["flop"] / (30.3e12 * 0.5) / 3600)
    assert [level["zero_stage"] for level in bucket["memory"]] == [0, 1, 2, 3]
    assert plan["data"]["clips"] == 5000
    data = plan["data"]
    assert data["bytes"] > 0
    assert data["precompute_precision"] == "tf32"
    assert data["precompute_gpu_hours"] == pytest.approx(data["precompute_flop"] / (60e12 * 0.5) / 3600)


def test_the_table_shows_what_is_assumed_and_every_zero_level(plan):
    from jobs.plan import plan_rows

    rows = [(name.strip(), str(text)) for name, text in plan_rows(plan)]
    told = dict(rows)
    assert told["GPUs"].startswith("2 × l4: 30.3 TFLOP/s in fp32, 24 GB (NVIDIA L4 data sheet")
    assert "MFU 0.5 (--mfu)" in told["assumed"]
    assert "GPU-hours" in told["training"]
    assert "costs" in told["training"]
    assert told["clips"].startswith("5,000, ")
    for level in ("ZeRO 0", "ZeRO 1", "ZeRO 2 (the recipe's)", "ZeRO 3"):
        assert told[level].startswith("fits: ")
    plan["stages"][0]["buckets"][0]["memory"][0]["fits"] = False
    assert any(str(text).startswith("TOO LARGE: ") for _, text in plan_rows(plan))


def test_an_unknown_gpu_is_one_error_that_names_the_nearest():
    done = dreamer("stock", "--gpu", "rtx4900", "--json")
    assert done.returncode == 2
    said = json.loads(done.stdout)["error"]
    assert "did you mean 'rtx4090'?" in said
    assert "h100, " in said
    assert "Traceback" not in done.stderr


CLUSTER = Path(__file__).parents[2] / "ray_cluster.yaml"


def test_a_cluster_file_alone_tells_where_each_step_finds_room():
    done = dreamer("paper", "--cluster", CLUSTER)
    assert done.returncode == 0, done.stderr
    rows = dict(
        line.strip().split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  train")
    )
    assert rows["train"].strip() == "64 × 8 CPU + 1 GPU: room for 64, on train_gpu"


def test_a_recipe_that_never_finds_room_is_refused_before_any_counting():
    done = dreamer("paper", "--cluster", CLUSTER, "--gpu", "h100", "train.gpus_per_worker=16", "--json")
    assert done.returncode == 2
    said = json.loads(done.stdout)["error"]
    assert "64 workers with 8 CPU + 16 GPU each would wait for ever" in said
    assert "train_gpu: 8 with 96 CPU + 8 GPU" in said
    assert "models/stable-diffusion" not in said


def test_a_plan_for_nothing_says_what_to_give():
    done = dreamer("stock")
    assert done.returncode == 2
    assert "--gpu NAME, --cluster FILE, or both" in done.stderr
