"""ray_cluster.yaml: what Ray's own check and the project's needs ask of it."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> dict:
    return prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))


def refusal(cluster: dict) -> str:
    """What Ray's own check has against a cluster file; empty when it takes it."""
    try:
        validate_config(cluster)
    except Exception as error:
        return str(error)
    return ""


def test_ray_takes_the_file_and_would_refuse_a_misspelled_key(cluster):
    assert refusal(cluster) == ""
    assert "idle_timeout" in refusal({**cluster, "idle_timeout": 5})


def test_decoding_is_cheap_and_training_is_not_interrupted(cluster):
    groups = cluster["available_node_types"]
    assert cluster["idle_timeout_minutes"] <= 10
    assert groups["head"]["resources"]["CPU"] == 0
    assert "GPU" not in groups["decode_cpu"]["resources"]
    assert groups["decode_cpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in groups["train_gpu"]["node_config"]
    assert all(group["min_workers"] == 0 for group in groups.values())
    assert sum(group["max_workers"] for group in groups.values()) <= cluster["max_workers"]


def test_nodes_get_the_locked_versions_and_the_token_and_listen_on_loopback_only(cluster):
    assert any("make setup" in command for command in cluster["setup_commands"])
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    (start,) = (command for command in cluster["head_start_ray_commands"] if "ray start" in command)
    assert "RAY_AUTH_MODE=token" in start
    assert "--dashboard-host=127.0.0.1" in start


def test_the_lock_file_pins_every_package_and_names_no_place():
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]
    assert all(line.count("==") == 1 for line in lines)
    assert not any(mark in line for line in lines for mark in ("/", "@", "+", " "))
    names = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert {
        "torch",
        "ray",
        "deepspeed",
        "mlflow",
        "decord",
        "diffusers",
        "transformers",
        "pytest",
        "ruff",
    } <= names
    assert "factorized-dreamer" not in names
