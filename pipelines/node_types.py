"""Node types: the machines that a Ray has or may start, and how much fits on them at once."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from pipelines.cluster import available_cpus, start_ray
from pipelines.recipe import RecipeError

# Named in the environment of a cluster's head: its nodes alone do not tell which others may be started, and
# Ray's autoscaler does not say it either.
CLUSTER_FILE = "DREAMER_CLUSTER"
# A resource of nodes that are there to precompute. For actors that wait Ray's autoscaler starts the largest
# nodes they can fill: without this, those that are meant, and paid, for training.
PRECOMPUTE = "precompute"
COUNTED = ("CPU", "GPU", PRECOMPUTE)
ROUNDING = 1e-9  # ten shares of 0.1 are one


class ClusterFileError(RecipeError):
    """A file that does not describe a cluster; the message says what is missing."""


@dataclass(frozen=True)
class NodeType:
    """One kind of machine. resources: of one node, as Ray counts them (`{"CPU": 32, "GPU": 1}`)."""

    name: str
    resources: Mapping[str, float]
    nodes: int  # at most

    def holds(self, wanted: Mapping[str, float]) -> int:
        """How many bundles of `wanted` one node has room for."""
        shares = (self.resources.get(name, 0) / amount for name, amount in wanted.items() if amount)
        return int(min(shares, default=1) + ROUNDING)

    def __str__(self) -> str:
        return f"{self.name}: {self.nodes} with {resource_text(self.resources)}"


@dataclass(frozen=True)
class Cluster:
    """Everything that tasks can be placed on.

    remedy: how a person gives it more. most_nodes: of all types together, the head included.
    """

    place: str
    node_types: tuple[NodeType, ...]
    remedy: str
    most_nodes: int | None = None

    def room(self, wanted: Mapping[str, float]) -> int:
        """How many bundles of `wanted` can be placed at the same time."""
        left = sum(kind.nodes for kind in self.node_types) if self.most_nodes is None else self.most_nodes
        room = 0
        for kind in sorted(self.node_types, key=lambda kind: -kind.holds(wanted)):
            nodes = min(kind.nodes, left)
            room += nodes * kind.holds(wanted)
            left -= nodes
        return room

    def total(self, resource: str) -> float:
        """What all nodes have of a resource."""
        return sum(kind.nodes * kind.resources.get(resource, 0) for kind in self.node_types)

    def only(self, resource: str) -> "Cluster":
        """The node types that have at least one of a resource."""
        return replace(self, node_types=tuple(kind for kind in self.node_types if kind.holds({resource: 1})))


def resource_text(resources: Mapping[str, float]) -> str:
    """`8 CPU + 1 GPU`."""
    return " + ".join(f"{resources[name]:g} {name}" for name in COUNTED if name in resources)


def reachable_cluster() -> Cluster:
    """What a command would run on: the cluster that RAY_ADDRESS names, otherwise this machine."""
    if not os.environ.get("RAY_ADDRESS"):
        return local_machine()
    with start_ray():
        return joined_cluster()


def joined_cluster() -> Cluster:
    """What the Ray that is connected may use: the file that describes it, otherwise the nodes it has now."""
    file = os.environ.get(CLUSTER_FILE)
    if file and os.environ.get("RAY_ADDRESS"):
        return read_cluster(file)
    import ray

    sizes = Counter(_countable(node["Resources"]) for node in ray.nodes() if node["Alive"])
    types = (NodeType(f"kind {n}", dict(size), nodes) for n, (size, nodes) in enumerate(sizes.items(), 1))
    remedy = (
        "add nodes; if the cluster starts nodes as they are needed, name the file that describes it in "
        f"{CLUSTER_FILE} in the environment of its head"
    )
    return Cluster("the cluster", tuple(types), remedy)


def local_machine() -> Cluster:
    """What a local Ray would have: see `pipelines.cluster.start_ray`."""
    import torch

    resources: dict[str, float] = {"CPU": max(2, available_cpus())}
    if gpus := torch.cuda.device_count():
        resources["GPU"] = gpus
    place = "this machine" if torch.version.cuda else "this machine, with a PyTorch without CUDA,"
    remedy = "send the recipe to a cluster with --submit"
    return Cluster(place, (NodeType("this machine", resources, 1),), remedy)


def read_cluster(file: str | Path) -> Cluster:
    """Node types of a file for `ray up`, or of a KubeRay RayCluster or RayJob.

    Raises ClusterFileError with what is missing.
    """
    try:
        documents = [each for each in yaml.safe_load_all(Path(file).expanduser().read_text()) if each]
    except (OSError, yaml.YAMLError) as error:
        raise ClusterFileError(f"{file} cannot be read as a cluster file: {error}") from error
    for document in documents:
        if isinstance(document, dict) and (config := _autoscaling_config(document, str(file))):
            types = tuple(_node_types(config, str(file)))
            remedy = f"give {file} more nodes (max_workers, or maxReplicas of a group) or larger ones"
            return Cluster(str(file), types, remedy, int(config.get("max_workers", 2)) + 1)
    raise ClusterFileError(
        f"{file} describes no cluster: give a file for `ray up`, with available_node_types, or a RayCluster "
        "or RayJob of KubeRay"
    )


def _autoscaling_config(document: dict[str, Any], file: str) -> dict[str, Any] | None:
    """What Ray's autoscaler makes of a document; None for one that describes no cluster."""
    if "available_node_types" in document:
        return document
    if document.get("kind") not in ("RayCluster", "RayJob"):
        return None
    # The function by which Ray's own autoscaler reads a RayCluster: quantities, overrides and all.
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    spec = document.get("spec", {})
    spec = spec.get("rayClusterSpec") if document["kind"] == "RayJob" else spec
    name = document.get("metadata", {}).get("name", "")
    try:
        return _derive_autoscaling_config_from_ray_cr(
            {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClusterFileError(f"{file}: Ray cannot read {document['kind']} {name}: {error!r}") from error


def _node_types(config: dict[str, Any], file: str) -> Iterator[NodeType]:
    head = config.get("head_node_type")
    for name, kind in config["available_node_types"].items():
        most = kind.get("max_workers", 0 if name == head else config.get("max_workers", 2))
        nodes = int(most) + (name == head)
        if nodes and "resources" not in kind:
            raise ClusterFileError(
                f"{file}: node type {name} has no `resources`; add them, such as {{CPU: 32, GPU: 1}}"
            )
        yield NodeType(name, dict(_countable(kind.get("resources", {}))), nodes)


def _countable(resources: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """What recipes ask for; nodes are told apart by nothing else here."""
    return tuple((name, float(resources[name])) for name in COUNTED if name in resources)
