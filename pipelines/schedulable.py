"""What each step of a recipe asks of Ray, and whether there can ever be nodes that have it.

Ray waits for ever for what no node has: a node might still come.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.node_types import PRECOMPUTE, Cluster, resource_text
from pipelines.recipe import Recipe

DECODERS_PER_GPU = 4
PER_WORKER = {"CPU": "cpus_per_worker", "GPU": "gpus_per_worker"}
SETTINGS = {"train": PER_WORKER, "evaluate": PER_WORKER, "curation.shots": {"GPU": "gpus_per_task"}}


@dataclass(frozen=True)
class Request:
    """Workers that a step wants at once. setting: the section of the recipe that decides over them."""

    step: str
    setting: str
    resources: Mapping[str, float]
    workers: int = 1

    def __str__(self) -> str:
        many, each = (f"{self.workers} workers", " each") if self.workers > 1 else ("a worker", "")
        return f"{many} with {resource_text(self.resources)}{each}"


@dataclass(frozen=True)
class ActorPool:
    """Actors that hold networks: how many there can be, and what each of them takes."""

    actors: int
    resources: Mapping[str, float]


def gpu_pool(cluster: Cluster, cpus_per_gpu: int = DECODERS_PER_GPU) -> ActorPool:
    """One actor on each GPU, with the CPUs that feed it; without GPUs, one on each CPU."""
    nodes = _precompute_nodes(cluster)
    if not nodes.node_types:
        return ActorPool(max(1, int(cluster.total("CPU"))), {"CPU": 1})
    share = min(kind.resources.get("CPU", 0) // kind.resources["GPU"] for kind in nodes.node_types)
    resources = _marked({"CPU": max(1, min(cpus_per_gpu, int(share))), "GPU": 1}, cluster)
    return ActorPool(max(1, nodes.room(resources)), resources)


def scoring_resources(recipe: Recipe, cluster: Cluster) -> Mapping[str, float]:
    """What a scoring task takes."""
    share = recipe.curation.shots.gpus_per_task
    return _marked({"CPU": 1, "GPU": share}, cluster) if share else {"CPU": 1}


def remote_options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Resources as the options of Ray's tasks and actors."""
    custom = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")}
    options = {"num_cpus": resources["CPU"], "num_gpus": resources.get("GPU", 0)}
    return {**options, "resources": custom} if custom else options


def _precompute_nodes(cluster: Cluster) -> Cluster:
    """Nodes with GPUs; where some have the resource `precompute`, those alone."""
    nodes = cluster.only("GPU")
    marked = nodes.only(PRECOMPUTE)
    return marked if marked.node_types else nodes


def _marked(resources: dict[str, float], cluster: Cluster) -> dict[str, float]:
    is_marked = bool(_precompute_nodes(cluster).only(PRECOMPUTE).node_types)
    return resources | ({PRECOMPUTE: resources["GPU"]} if is_marked else {})


def requests(recipe: Recipe, steps: tuple[str, ...], cluster: Cluster) -> Iterator[Request]:
    """What the steps will ask for, in their order."""
    if "curate" in steps:
        yield from _curation_requests(recipe, cluster)
    for name, settings in (("train", recipe.train), ("evaluate", recipe.evaluate)):
        if settings is not None and name in steps:
            resources = {"CPU": settings.cpus_per_worker}
            if settings.gpus_per_worker:
                resources["GPU"] = settings.gpus_per_worker
            yield Request(name, name, resources, settings.workers)


def _curation_requests(recipe: Recipe, cluster: Cluster) -> Iterator[Request]:
    yield Request("curate: score", "curation.shots", scoring_resources(recipe, cluster))
    if recipe.curation.captions.model is not None:
        yield Request("curate: captions", "curation.captions", gpu_pool(cluster, 1).resources)
    yield Request("curate: precompute", "curation.precompute", gpu_pool(cluster).resources)


def schedule_faults(recipe: Recipe, steps: tuple[str, ...], cluster: Cluster) -> Iterator[str]:
    """Steps that would wait for ever, each with what there is and what to change."""
    for request in requests(recipe, steps, cluster):
        room = cluster.room(request.resources)
        if room >= request.workers:
            continue
        kinds = [kind for kind in cluster.node_types if kind.holds(request.resources)] or cluster.node_types
        there = ", ".join(map(str, kinds)) or "no node"
        changes = list(_changes(request, room, cluster))
        settings = f"set {' or '.join(changes)}, or " if changes else ""
        yield (
            f"{request.step}: {request} would wait for ever: {cluster.place} has room for {room or 'none'} "
            f"({there}); {settings}{cluster.remedy}"
        )


def _changes(request: Request, room: int, cluster: Cluster) -> Iterator[str]:
    """Settings that would do, each by itself."""
    if room:
        yield f"{request.setting}.workers={room}"
    for resource, name in SETTINGS.get(request.setting, {}).items():
        if (amount := _fitting(request, resource, cluster)) is not None:
            yield f"{request.setting}.{name}={amount:g}"


def _fitting(request: Request, resource: str, cluster: Cluster) -> float | None:
    """How much of one resource each worker can have, the rest as it is; None when that mends nothing."""
    if resource not in request.resources:
        return None
    rest = {name: amount for name, amount in request.resources.items() if name != resource}
    most = max(
        (kind.resources.get(resource, 0) for kind in cluster.node_types if kind.holds(rest)), default=0
    )
    if not most:
        return None if resource == "CPU" or cluster.total(resource) else 0
    shares = range(1, request.workers + 1) if resource == "CPU" else (1,)  # a GPU trains for one worker
    amounts = (most / share for share in shares if most / share < request.resources[resource])
    return next((each for each in amounts if cluster.room({**rest, resource: each}) >= request.workers), None)


def placements(recipe: Recipe, steps: tuple[str, ...], cluster: Cluster) -> list[dict[str, Any]]:
    """What each step asks for and which node types have it, as data.

    A row: `step`, `workers`, `resources` of each, `room` (how many fit at once), `node_types` that hold one.
    """
    return [
        {
            "step": request.step,
            "workers": request.workers,
            "resources": dict(request.resources),
            "room": cluster.room(request.resources),
            "node_types": [kind.name for kind in cluster.node_types if kind.holds(request.resources)],
        }
        for request in requests(recipe, steps, cluster)
    ]
