"""Units of work as Ray tasks and as Ray Data blocks."""

from collections.abc import Callable, Sequence
from typing import Any

from pipelines.curation.memory import Peaks, with_peak

UNITS_PER_TASK = 64
MOST_BLOCKS = 4096


def over_units(
    function: Callable[..., Any],
    units: Sequence[int],
    *arguments: Any,
    peaks: Peaks | None = None,
    advance: Callable[[int], None] | None = None,
) -> list[Any]:
    """`function(unit, *arguments)` of every unit, in Ray tasks that share the arguments."""
    import ray

    cpus = max(1, int(ray.cluster_resources().get("CPU", 0)))  # none yet where nodes come on demand
    size = min(UNITS_PER_TASK, max(1, len(units) // (4 * cpus)))
    work = ray.remote(with_peak(_each))
    shared = [part if isinstance(part, ray.ObjectRef) else ray.put(part) for part in arguments]
    spans = [units[first : first + size] for first in range(0, len(units), size)]
    results = []
    for reference in [work.remote(function, span, *shared) for span in spans]:
        found, peak_gb = ray.get(reference)
        results += found
        if peaks is not None:
            peaks.note("query", peak_gb)
        if advance:
            advance(len(results))
    return results


def _each(function: Callable[..., Any], units: Sequence[int], *arguments: Any) -> list[Any]:
    return [function(unit, *arguments) for unit in units]


def unit_stream(units: Sequence[int]) -> Any:
    """A Ray data set of rows {"unit": unit}, in as many blocks as Ray handles with ease."""
    import ray

    blocks = min(len(units), MOST_BLOCKS)
    return ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=blocks)
