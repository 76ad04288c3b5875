"""`dreamer plan`: what a training will need, before anything starts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.shell import Debug, Json, Overrides, RecipeName, Rows, Summary, duration, execute
from jobs.submittable import submittable
from pipelines.hardware import MFU

if TYPE_CHECKING:
    from pipelines.recipe import Recipe

MEMORY_PARTS = ("weights", "gradients", "optimizer", "ema", "activations", "encoders")


@submittable
def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="NAME", help="Such as h100, a100-80, rtx4090; a wrong one lists all."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="FILE",
            help="Of `ray up` or KubeRay: a recipe that could never be placed on its nodes is refused.",
        ),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="How many train together.")] = 1,
    price_per_gpu_hour: Annotated[
        float | None,
        typer.Option("--price-per-gpu-hour", min=0, help="In any currency; sums are in the same."),
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option("--clips", min=1, help="Clips to plan data for; default: those that are curated."),
    ] = None,
    mfu: Annotated[
        float,
        typer.Option(
            "--mfu", min=0.001, max=1, help="Assumed share of the GPU's peak rate that training makes use of."
        ),
    ] = MFU,
    core_seconds_per_source: Annotated[
        float | None,
        typer.Option(
            "--core-seconds-per-source",
            min=0,
            help="CPU time that scoring a source takes; default: as measured for the README.",
        ),
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """What a recipe will need: GPU-hours, memory of each GPU at ZeRO 0 to 3, data, money, nodes.

    Everything is counted from the models' config.json and the recipe's buckets. No weights are read and no
    GPU is needed, and nothing is written. Peak memory is that of a real step, counted on a device that
    allocates nothing.

    \b
    dreamer plan stock --gpu l4 --clips 100000
    dreamer plan my.yaml --gpu h100 --gpus 64 --price-per-gpu-hour 2.5 --clips 1000000
    dreamer plan my.yaml --cluster ray_cluster.yaml
    dreamer plan my.yaml --gpu a100-40 --gpus 8 train.global_batch_clips=16 train.precision=bf16 --json
    """

    def work() -> Summary:
        from pipelines.hardware import find_gpu
        from pipelines.recipe import RecipeError
        from pipelines.recipe_file import load_recipe

        if gpu is None and cluster is None:
            raise RecipeError("nothing to plan for: give --gpu NAME, --cluster FILE, or both")
        device = None if gpu is None else find_gpu(gpu)  # before the slow imports
        settings = load_recipe(recipe, tuple(overrides or ()))
        placed = {} if cluster is None else placed_on(settings, cluster)
        if device is None:
            return placed
        from pipelines.planning.estimate import CORE_SECONDS_PER_SOURCE, Assumptions, plan_recipe

        seconds = CORE_SECONDS_PER_SOURCE if core_seconds_per_source is None else core_seconds_per_source
        assumed = Assumptions(device, gpus, mfu, price_per_gpu_hour, seconds, clips)
        return plan_recipe(settings, assumed) | placed

    execute("Plan", work, plan_rows, json_output=json_output, debug=debug)


def placed_on(recipe: "Recipe", file: str) -> Summary:
    """Which nodes of a cluster file each step can be placed on; raises PreflightError when one has none."""
    from pipelines.node_types import read_cluster
    from pipelines.preflight import STEPS, PreflightError
    from pipelines.schedulable import placements, schedule_faults

    cluster = read_cluster(file)
    if faults := list(schedule_faults(recipe, STEPS, cluster)):
        raise PreflightError(faults)
    return {"cluster": file, "placements": placements(recipe, STEPS, cluster)}


def plan_rows(summary: Summary) -> Rows:
    """Nodes and assumptions on top, then stages and their buckets, then sums."""
    if "cluster" in summary:
        yield from _placement_rows(summary)
    if "stages" not in summary:
        return
    yield from _assumption_rows(summary)
    for stage in summary["stages"]:
        yield "", ""
        yield (
            f"stage {stage['stage']}",
            f"{stage['steps']:,} steps, {_count(stage['trained_parameters'])} parameters trained, "
            f"{_count(stage['frozen_parameters'])} frozen; {_hours(stage)}",
        )
        for bucket in stage["buckets"]:
            yield from _bucket_rows(bucket, summary["zero_stage"])
    yield "", ""
    yield "training", _hours(summary["training"])
    yield from _data_rows(summary["data"])


def _placement_rows(summary: Summary) -> Rows:
    from pipelines.node_types import resource_text

    yield "cluster", summary["cluster"]
    for placed in summary["placements"]:
        yield (
            f"  {placed['step']}",
            f"{placed['workers']} × {resource_text(placed['resources'])}: room for {placed['room']:,}, "
            f"on {', '.join(placed['node_types'])}",
        )


def _assumption_rows(summary: Summary) -> Rows:
    gpu, assumed, parameters = summary["gpu"], summary["assumed"], summary["parameters"]
    yield (
        "GPUs",
        f"{gpu['gpus']} × {gpu['name']}: {gpu['peak_flop_per_second'] / 1e12:,.1f} TFLOP/s in "
        f"{summary['precision']}, {gpu['memory_gb']:g} GB ({gpu['source']})",
    )
    yield (
        "assumed",
        f"MFU {assumed['mfu']:g} (--mfu); {assumed['usable_memory']:.0%} of the memory is to be had; "
        f"{assumed['core_seconds_per_source']:g} core-seconds to score a source "
        f"({assumed['core_seconds_from']})",
    )
    yield (
        "video UNet",
        f"{_count(parameters['video_unet'])} parameters, of which the image model's "
        f"{_count(parameters['image_unet'])}",
    )
    for name, encoder in parameters["encoders"].items():
        yield (
            name.replace("_", " "),
            f"{_count(encoder['parameters'])} parameters, {_size(encoder['bytes'])}, frozen, on every GPU",
        )
    savings = [f"{name}=true" for name, on in summary["savings"].items() if on]
    if savings:
        yield "memory is saved by", ", ".join(savings)


def _bucket_rows(bucket: dict[str, Any], zero_stage: int) -> Iterator[tuple[str, str]]:
    yield (
        f"  {bucket['bucket']}",
        f"{_flop(bucket['clip_flop'])} a clip, {_flop(bucket['step_flop'])} a step in "
        f"{bucket['seconds_per_step']:.3g} s, {bucket['share']:.0%} of the steps; clips: "
        f"{bucket['clips_per_gpu']} a GPU, {bucket['clips_per_pass']} a pass",
    )
    for level in bucket["memory"]:
        parts = ", ".join(f"{name} {_size(level[name])}" for name in MEMORY_PARTS)
        host = f"; {_size(level['host'])} in the host's memory" if level["host"] else ""
        chosen = " (the recipe's)" if level["zero_stage"] == zero_stage else ""
        yield (
            f"    ZeRO {level['zero_stage']}{chosen}",
            f"{'fits' if level['fits'] else 'TOO LARGE'}: {_size(level['peak'])} = {parts}{host}",
        )


def _data_rows(data: dict[str, Any]) -> Rows:
    if data["clips"] is None:
        yield "clips", "not known: curate first, or give --clips N"
    else:
        yield "clips", f"{data['clips']:,}, {_size(data['bytes'])} of shards ({data['counted_from']})"
        hours = f"{data['precompute_gpu_hours']:,.3g} GPU-hours in {data['precompute_precision']}"
        yield "  latents and features", hours + _paid(data)
    if data["core_hours"] is not None:
        yield "scoring", f"{data['core_hours']:,.3g} core-hours for {data['sources']:,} sources"


def _hours(cost: dict[str, Any]) -> str:
    hours = f"{cost['gpu_hours']:,.3g} GPU-hours, {duration(cost['hours'] * 3600)}"
    return f"{_flop(cost['flop'])}, {hours}{_paid(cost)}"


def _paid(cost: dict[str, Any]) -> str:
    return "" if cost["money"] is None else f", costs {cost['money']:,.2f}"


def _flop(flop: float) -> str:
    return f"{_scaled(flop)}FLOP"


def _size(bytes_: float) -> str:
    return f"{_scaled(bytes_)}B"


def _count(number: float) -> str:
    return _scaled(number).strip()


def _scaled(number: float) -> str:
    """`12.3 G`: three digits and the power of a thousand."""
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {letter}"
    return f"{number:.3g} "
