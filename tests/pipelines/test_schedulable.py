"""A recipe that could never be placed is refused, with what there is and what to change."""

from pathlib import Path

import pytest

from pipelines.node_types import Cluster, NodeType, local_machine, read_cluster
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.schedulable import gpu_pool, placements, remote_options, schedule_faults, scoring_resources

ROOT = Path(__file__).parents[2]
FILES = ["ray_cluster.yaml", "infra/gcp_cluster.yaml", "infra/kuberay/cluster.yaml", "infra/kuberay/job.yaml"]
STEPS = ("curate", "train", "evaluate")
CPU_NODES = NodeType("cpu", {"CPU": 32}, 10)
GPU_NODES = NodeType("gpu", {"CPU": 8, "GPU": 1}, 4)
MARKED_NODES = NodeType("marked", {"CPU": 4, "GPU": 1, "precompute": 1}, 3)


def cluster(*types: NodeType) -> Cluster:
    return Cluster("the test's cluster", types, "add nodes")


def faults(recipe: Recipe, where: Cluster) -> list[str]:
    return list(schedule_faults(recipe, STEPS, where))


def only_fault(recipe: Recipe, where: Cluster) -> str:
    found = faults(recipe, where)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("recipe", ["paper", "small_gpu", "stock"])
def test_the_recipes_that_ship_find_room_on_the_clusters_that_ship(name, recipe):
    assert faults(load_recipe(recipe), read_cluster(ROOT / name)) == []


@pytest.mark.parametrize("name", FILES)
def test_the_papers_64_workers_all_stand_on_training_nodes(name):
    rows = {row["step"]: row for row in placements(load_recipe("paper"), STEPS, read_cluster(ROOT / name))}
    assert rows["train"]["workers"] == rows["train"]["room"] == 64
    assert [kind.replace("-", "_") for kind in rows["train"]["node_types"]] == ["train_gpu"]
    assert [kind.replace("-", "_") for kind in rows["curate: precompute"]["node_types"]] == ["precompute_gpu"]


def test_a_worker_larger_than_any_node_is_refused_with_what_each_node_has():
    fault = only_fault(load_recipe("small_gpu", ("train.gpus_per_worker=2",)), cluster(CPU_NODES, GPU_NODES))
    assert fault.startswith("train: a worker with 4 CPU + 2 GPU would wait for ever")
    assert "room for none (cpu: 10 with 32 CPU, gpu: 4 with 8 CPU + 1 GPU)" in fault
    assert "train.gpus_per_worker=1" in fault


def test_cpus_and_gpus_must_be_on_the_same_node():
    fault = only_fault(load_recipe("small_gpu", ("train.cpus_per_worker=16",)), cluster(CPU_NODES, GPU_NODES))
    assert "set train.cpus_per_worker=8, or add nodes" in fault


def test_a_worker_group_must_find_room_at_once():
    fault = only_fault(load_recipe("paper"), cluster(CPU_NODES, GPU_NODES))
    assert "64 workers with 8 CPU + 1 GPU each" in fault
    assert "room for 4 (gpu: 4 with 8 CPU + 1 GPU); set train.workers=4, or" in fault


def test_fewer_cpus_for_each_worker_are_proposed_where_that_would_do():
    crowded = load_recipe("stock", ("train.workers=4", "train.cpus_per_worker=1"))
    assert "train.workers=2 or train.cpus_per_worker=0.5" in only_fault(
        crowded, cluster(NodeType("small", {"CPU": 2}, 1))
    )


def test_a_scoring_task_that_wants_a_gpu_is_refused_where_there_is_none():
    recipe = load_recipe("stock", ("curation.shots.gpus_per_task=0.25",))
    assert "curation.shots.gpus_per_task=0," in only_fault(recipe, cluster(CPU_NODES))
    assert faults(recipe, cluster(CPU_NODES, GPU_NODES)) == []


def test_a_cluster_that_only_has_a_head_is_no_place_for_anything():
    head = cluster(NodeType("head", {"CPU": 0}, 1))
    told = faults(load_recipe("stock"), head)
    assert [fault.partition(": ")[0] for fault in told] == ["curate", "curate", "train", "evaluate"]


def test_on_one_machine_the_way_out_is_a_cluster():
    if local_machine().total("GPU"):
        pytest.skip("this machine has GPUs")
    recipe = load_recipe("small_gpu", ("train.cpus_per_worker=1", "evaluate.gpus_per_worker=0"))
    fault = only_fault(recipe, local_machine())
    assert "train.gpus_per_worker=0" in fault
    assert "--submit" in fault


def test_networks_go_to_gpus_that_may_still_come_and_each_gets_the_cpus_of_its_share():
    assert gpu_pool(cluster(CPU_NODES)).actors == 320
    assert gpu_pool(cluster(CPU_NODES)).resources == {"CPU": 1}
    pool = gpu_pool(cluster(CPU_NODES, GPU_NODES))
    assert (pool.actors, pool.resources) == (4, {"CPU": 4, "GPU": 1})
    narrow = gpu_pool(cluster(CPU_NODES, NodeType("narrow", {"CPU": 4, "GPU": 4}, 2)))
    assert (narrow.actors, narrow.resources) == (8, {"CPU": 1, "GPU": 1})


def test_nodes_that_are_marked_for_it_take_all_networks_of_curation():
    both = cluster(GPU_NODES, MARKED_NODES)
    pool = gpu_pool(both)
    assert (pool.actors, pool.resources) == (3, {"CPU": 4, "GPU": 1, "precompute": 1})
    recipe = load_recipe("stock", ("curation.shots.gpus_per_task=0.25",))
    assert scoring_resources(recipe, both) == {"CPU": 1, "GPU": 0.25, "precompute": 0.25}


def test_ray_places_actors_of_a_pool_on_marked_nodes_alone():
    import ray

    from pipelines.cluster import DRIVER_ENVIRONMENT, environment
    from pipelines.node_types import joined_cluster

    ray.shutdown()
    with environment(DRIVER_ENVIRONMENT):
        ray.init(
            address="local", num_cpus=2, num_gpus=1, resources={"precompute": 1}, include_dashboard=False
        )
        try:
            pool = gpu_pool(joined_cluster())
            assert pool.resources == {"CPU": 2, "GPU": 1, "precompute": 1}

            class Taken:
                def __call__(self, row: dict) -> dict:
                    left = ray.available_resources()
                    return {name: left.get(name, 0.0) for name in ("GPU", "precompute")}

            rows = (
                ray.data.from_items([{"unit": 0}])
                .map(
                    Taken,
                    compute=ray.data.ActorPoolStrategy(size=pool.actors),
                    **remote_options(pool.resources),
                )
                .take_all()
            )
            assert rows == [{"GPU": 0.0, "precompute": 0.0}]
        finally:
            ray.shutdown()
