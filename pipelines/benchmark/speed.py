"""Curation's speed against its own speed of light: its kernels, bare, on the same cores.

The pipeline runs over some copies of the sources, then over twice as many; what the second run takes more is
what a source costs, start-up aside. The bare kernels (pipelines.benchmark.kernels) run in one process that
has the machine to itself, and in one process on each core, after each run: busy cores slow each other, and a
pipeline keeps all of them busy.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pipelines.benchmark.kernels import PRECOMPUTE_KERNELS, SCORE_KERNELS, Measured, measure_kernels, stay_on
from pipelines.cluster import available_cpus
from pipelines.curation.reach import data_root, reach_of, resolve_uri
from pipelines.curation.run import curate
from pipelines.curation.sources import read_sources
from pipelines.progress import track
from pipelines.recipe import DataSettings, Recipe, with_absolute_paths

PASSES = {"score": SCORE_KERNELS, "precompute": PRECOMPUTE_KERNELS}


@dataclass(frozen=True)
class Run:
    """One run of the pipeline over some copies of the sources."""

    recipe: Recipe
    sources: int
    seconds: float
    stages: dict[str, float]

    @property
    def start_seconds(self) -> float:
        """What no stage of the pipeline took: Ray's start and end."""
        return self.seconds - sum(self.stages.values())

    @property
    def scored_per_second(self) -> float:
        return self.sources / (self.start_seconds + self.stages["divide"] + self.stages["score"])


def measure_curation(recipe: Recipe, copies: int) -> dict[str, Any]:
    """Seconds a source on one core: of the pipeline's passes and of the bare kernels, and their ratios.

    `alone` is of one process on an otherwise idle machine, `together` of one on each core at the same time.
    Near-duplicates are kept, for the copies are such. Raises what `curate` raises.
    """
    recipe = with_absolute_paths(recipe)
    cores = available_cpus()
    with tempfile.TemporaryDirectory() as scratch, process_on_each_core() as processes:
        short = run_copies(recipe, copies, Path(scratch))
        together = run_kernels(short, processes)
        long = run_copies(recipe, 2 * copies, Path(scratch))
        together += run_kernels(short, processes)
        (alone,) = run_kernels(short, processes[:1])
    more = (long.sources - short.sources) / cores
    seconds = {
        name: {
            "pipeline": (long.stages[name] - short.stages[name]) / more,
            "alone": _seconds(kernels, [alone]) / alone.sources,
            "together": _seconds(kernels, together) / alone.sources,
        }
        for name, kernels in PASSES.items()
    }
    seconds["both"] = {key: sum(part[key] for part in seconds.values()) for key in seconds["score"]}
    return {
        "cores": cores,
        "sources": short.sources,
        "scored_per_second": round(short.scored_per_second, 3),
        "start_seconds": round(short.start_seconds, 1),
        "stages": short.stages,
        "core_seconds_per_source": {
            name: {key: round(value, 4) for key, value in part.items()} for name, part in seconds.items()
        },
        "of_speed_of_light": {
            name: {key: round(part[key] / part["pipeline"], 3) for key in ("together", "alone")}
            for name, part in seconds.items()
        },
        "kernels": {
            kernel: round(_seconds((kernel,), together) / alone.sources, 4)
            for kernels in PASSES.values()
            for kernel in kernels
        },
        "alike": alone.alike,
    }


@contextmanager
def process_on_each_core() -> Iterator[list[ProcessPoolExecutor]]:
    """One process a core, held there with all of its threads."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    with ExitStack() as stack:
        # Not forked: a process that has used OpenVINO must not be.
        yield [
            stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), initializer=stay_on, initargs=(core,))
            )
            for core in cores
        ]


def run_kernels(run: Run, processes: list[ProcessPoolExecutor]) -> list[Measured]:
    """The kernels of all sources in each of the processes at once."""
    with track(len(processes), "benchmark: bare kernels") as step:
        futures = [process.submit(measure_kernels, run.recipe) for process in processes]
        measured = []
        for future in futures:
            measured.append(future.result())
            step.advance()
    return measured


def _seconds(kernels: tuple[str, ...], processes: list[Measured]) -> float:
    """Of these kernels, in the mean of some processes."""
    return sum(measured.seconds[kernel] for measured in processes for kernel in kernels) / len(processes)


def run_copies(recipe: Recipe, copies: int, scratch: Path) -> Run:
    """Curate a table in which every source of the recipe's stands `copies` times."""
    table = scratch / f"{copies}.jsonl"
    rows = [
        {"videoid": f"{row['source_id']} {copy}", "contentUrl": _path(row, recipe), "name": row["caption"]}
        for row in read_sources(recipe.data)
        for copy in range(copies)
    ]
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    filters = recipe.curation.filters.model_copy(update={"max_phash_distance": None})
    copied = recipe.model_copy(
        update={
            "run_directory": str(scratch / f"run {copies}"),
            "data": DataSettings(
                table=str(table),
                more_roots=(str(data_root(recipe.data).absolute()), *recipe.data.more_roots),
                private_networks=recipe.data.private_networks,
            ),
            "curation": recipe.curation.model_copy(update={"filters": filters}),
        }
    )
    started = time.monotonic()
    summary = curate(copied)
    return Run(copied, len(rows), time.monotonic() - started, summary["seconds"])


def _path(row: dict[str, Any], recipe: Recipe) -> str:
    return resolve_uri(row["source_uri"], reach_of(recipe.data))[0]
