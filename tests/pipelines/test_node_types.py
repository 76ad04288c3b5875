"""What a Ray has or may start: read from files, from a running Ray, from this machine."""

import json
from pathlib import Path

import pytest

from pipelines.cluster import available_cpus
from pipelines.node_types import (
    CLUSTER_FILE,
    Cluster,
    ClusterFileError,
    NodeType,
    joined_cluster,
    local_machine,
    read_cluster,
)

ROOT = Path(__file__).parents[2]
SMALL, LARGE = {"CPU": 4.0, "GPU": 1.0}, {"CPU": 96.0, "GPU": 8.0}


def cluster(*kinds: tuple[dict[str, float], int], most_nodes: int | None = None) -> Cluster:
    types = tuple(NodeType(f"type-{n}", size, nodes) for n, (size, nodes) in enumerate(kinds))
    return Cluster("a test", types, "add nodes", most_nodes)


def test_room_is_counted_on_each_node_and_not_over_all():
    nodes = cluster((SMALL, 3), (LARGE, 2))
    assert nodes.room({"CPU": 3, "GPU": 1}) == 3 + 2 * 8
    assert nodes.room({"CPU": 8, "GPU": 1}) == 2 * 8
    assert nodes.room({"CPU": 4, "GPU": 2}) == 2 * 4
    assert nodes.room({"CPU": 97}) == 0
    assert nodes.total("GPU") == 19


def test_all_types_together_are_no_more_nodes_than_the_cluster_may_have():
    assert cluster((SMALL, 3), (LARGE, 2), most_nodes=3).room({"CPU": 1, "GPU": 1}) == 2 * 8 + 1


def test_shares_of_a_resource_add_up_to_one():
    assert cluster(({"CPU": 1.0}, 1)).room({"CPU": 0.1}) == 10


@pytest.mark.parametrize("name", ["ray_cluster.yaml", "infra/gcp_cluster.yaml"])
def test_a_file_for_ray_up_gives_its_head_and_its_groups(name):
    types = {kind.name: kind for kind in read_cluster(ROOT / name).node_types}
    assert types["head"] == NodeType("head", {"CPU": 0}, 1)
    assert types["train_gpu"] == NodeType("train_gpu", {"CPU": 96, "GPU": 8}, 8)
    assert types["precompute_gpu"].resources == {"CPU": 4, "GPU": 1, "precompute": 1}


@pytest.mark.parametrize("name", ["cluster.yaml", "job.yaml"])
def test_a_kuberay_file_is_read_as_rays_autoscaler_reads_it(name):
    types = {kind.name: kind for kind in read_cluster(ROOT / "infra" / "kuberay" / name).node_types}
    assert types["headgroup"] == NodeType("headgroup", {"CPU": 0}, 1)
    assert types["decode-cpu"] == NodeType("decode-cpu", {"CPU": 30}, 64)
    assert types["precompute-gpu"] == NodeType("precompute-gpu", {"CPU": 4, "GPU": 1, "precompute": 1}, 16)
    assert types["train-gpu"] == NodeType("train-gpu", {"CPU": 92, "GPU": 8}, 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "cannot be read"),
        ("kind: Service\n", "describes no cluster"),
        ("available_node_types: {gpu: {max_workers: 1}}\n", "node type gpu has no `resources`"),
        ("kind: RayCluster\nspec: {}\n", "headGroupSpec"),
    ],
)
def test_a_file_that_describes_no_cluster_is_refused_with_what_is_missing(tmp_path: Path, text, said):
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(ClusterFileError, match=said):
        read_cluster(file)


def test_a_running_ray_is_its_nodes_and_what_its_file_says_may_come(ray, monkeypatch, tmp_path: Path):
    import ray as running

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    there = joined_cluster()
    assert there.total("CPU") == running.cluster_resources()["CPU"]
    assert CLUSTER_FILE in there.remedy
    described = {"available_node_types": {"gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 5}}}
    (tmp_path / "cluster.json").write_text(json.dumps(described))
    monkeypatch.setenv(CLUSTER_FILE, str(tmp_path / "cluster.json"))
    assert joined_cluster().total("GPU") == there.total("GPU")  # a local Ray starts no nodes
    monkeypatch.setenv("RAY_ADDRESS", running.get_runtime_context().gcs_address)
    assert joined_cluster().total("GPU") == 5


def test_this_machine_is_what_a_local_ray_would_have():
    (machine,) = local_machine().node_types
    assert machine.resources["CPU"] == max(2, available_cpus())
    assert machine.nodes == 1
