"""Batches of an evaluation through a fixed pool of workers, as one Ray Data stream."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.recipe import EvaluateSettings

MOST_BLOCKS = 4096


def pool_rows(
    worker: type, plan: Any, batches: Sequence[dict[str, str]], settings: EvaluateSettings
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each batch, as they come. worker: made of `plan`, gives {"rows": [JSON]} for a batch."""
    import ray
    from ray.data import ActorPoolStrategy

    results = ray.data.from_items(
        list(batches), override_num_blocks=min(len(batches), MOST_BLOCKS)
    ).map_batches(
        worker,
        batch_size=1,
        compute=ActorPoolStrategy(size=min(settings.workers, len(batches))),
        num_cpus=settings.cpus_per_worker,
        num_gpus=settings.gpus_per_worker or None,
        fn_constructor_args=(plan,),
    )
    for result in results.iter_rows():
        yield json.loads(result["rows"])
