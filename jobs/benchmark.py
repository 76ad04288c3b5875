"""`dreamer benchmark`: how good and how fast the stages are, measured on this machine."""

import sys
from typing import Annotated, Any

import typer

from jobs.shell import Debug, Json, Overrides, RecipeName, Rows, Summary, execute
from jobs.submittable import submittable

LOOPS = {"bare": "bare loop", **{f"zero_{level}": f"our loop, ZeRO {level}" for level in range(4)}}

benchmark = typer.Typer(
    help="How good and how fast the stages are, measured on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@benchmark.command()
@submittable
def filters(
    recipe: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="Whose thresholds to try; default: stock.")
    ] = "stock",
    overrides: Overrides = None,
    clips: Annotated[
        str | None,
        typer.Option(
            "--clips",
            metavar="TABLE_OR_FOLDER",
            help="Good footage of your own to build the test set from, instead of generated scenes.",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="FILTER,...", help="Some filters, such as text,shots.")
    ] = None,
    transnet: Annotated[
        str | None,
        typer.Option("--transnet", metavar="WEIGHTS", help="Try TransNetV2 beside PySceneDetect."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, help="Films to refuse, and as many to keep, for each filter.")
    ] = 24,
    seed: Annotated[int, typer.Option("--seed", help="The same seed makes the same films.")] = 0,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Films made at a time.")] = 2,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Name every film that is judged wrongly.")
    ] = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Precision and recall of every filter on a labelled test set that this command makes.

    Each filter is judged alone, by the recipe's thresholds, on real encoded files that go through the same
    scoring as a run's. Kinds without a right answer are shown below the table and not counted.

    \b
    dreamer benchmark filters
    dreamer benchmark filters stock --clips videos.csv --only text,watermark --verbose
    dreamer benchmark filters stock curation.filters.max_text_area=0.03 --seed 7
    """

    def work() -> Summary:
        from pipelines.benchmark.filters import FILTERS, Benchmark, measure_filters, real_clips
        from pipelines.recipe import DataSettings
        from pipelines.recipe_file import load_recipe

        settings = tuple(overrides or ())
        read = load_recipe(recipe, settings)
        curation, reach = read.curation, read.data.model_dump(include={"more_roots", "private_networks"})
        webvid = load_recipe(recipe, ("source=webvid", *settings)).curation.filters
        footage = real_clips(DataSettings(table=clips, **reach), curation) if clips else ()
        names = tuple(only.split(",")) if only else FILTERS
        bench = Benchmark(curation, webvid, seed, footage, transnet)
        results = measure_filters(bench, count, names, processes)
        return {
            "recipe": recipe,
            "seed": seed,
            "clips": clips,
            "base_clips": len(footage),
            "filters": [result.as_dict() for result in results],
        }

    def rows(summary: Summary) -> Rows:
        return _told(summary, verbose=verbose)

    execute("Filters: precision, recall", work, rows, json_output=json_output, debug=debug)


def _told(summary: Summary, *, verbose: bool) -> Rows:
    for result in summary["filters"]:
        yield result["filter"], _line(result)
    for result in summary["filters"]:
        if result["reported"]:
            shares = (f"{kind} {refused}/{tried}" for kind, (refused, tried) in result["reported"].items())
            yield f"{result['filter']}, not counted", f"refused or found: {', '.join(shares)}"
    for result in summary["filters"] if verbose else ():
        for miss in result["misses"]:
            yield "wrong", miss


def _line(result: dict[str, Any]) -> str:
    precision, recall = (
        "none" if result[key] is None else f"{result[key]:.3f}" for key in ("precision", "recall")
    )
    return (
        f"precision {precision}, recall {recall} on {result['positives']} to refuse and "
        f"{result['negatives']} to keep ({result['threshold']})"
    )


@benchmark.command()
@submittable
def curate(
    recipe: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="Whose curation to time; default: stock.")
    ] = "stock",
    overrides: Overrides = None,
    copies: Annotated[
        int, typer.Option("--copies", min=1, help="How often each source stands in the shorter run's table.")
    ] = 4,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Curation's speed against the speed of light: its kernels, bare.

    Runs the pipeline over several copies of the table and over twice as many, then the libraries' calls on
    the same files, in one process and in one on each core, and compares what both found. Leave the machine
    alone meanwhile.

    \b
    dreamer benchmark curate stock data.table=videos.csv
    dreamer benchmark curate stock data.table=videos.csv --copies 8 --json
    """

    def work() -> Summary:
        from pipelines.benchmark.speed import measure_curation
        from pipelines.recipe_file import load_recipe

        return measure_curation(load_recipe(recipe, tuple(overrides or ())), copies)

    execute("Curation against the speed of light", work, _speed_rows, json_output=json_output, debug=debug)


def _speed_rows(summary: Summary) -> Rows:
    yield "sources", f"{summary['sources']} on {summary['cores']} cores"
    yield "scored, start-up included", f"{summary['scored_per_second']:.2f} sources/s"
    yield "start-up of Ray", f"{summary['start_seconds']:.1f} s"
    for name, shares in summary["of_speed_of_light"].items():
        seconds = summary["core_seconds_per_source"][name]
        yield (
            f"{name}: of the speed of light",
            f"{shares['together']:.2f} ({seconds['pipeline']:.3f} s a source and core; "
            f"bare {seconds['together']:.3f} s, {seconds['alone']:.3f} s with the other cores idle)",
        )
    total = sum(summary["kernels"].values())
    for name, seconds in summary["kernels"].items():
        yield f"  {name}", f"{seconds:.4f} s a source, {seconds / total:.0%}"
    yield from summary["alike"].items()


@benchmark.command()
@submittable
def scale(
    recipe: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="Whose curation to try; default: stock.")
    ] = "stock",
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Sources of the table.")] = 100_000,
    table_only: Annotated[
        bool,
        typer.Option("--table-only", help="Stop at the units of work: what follows is done by workers."),
    ] = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Curation's planning and books for a table of any size, without a film: time, memory, bytes.

    The table is made up, and so are the scores and manifests that films would give; what reads, divides,
    judges and counts them is curation's own code. Core-seconds are those of driver and workers together.
    Ten million rows take an hour and a quarter on two cores, and 5 GB of the temporary folder, TMPDIR.

    \b
    dreamer benchmark scale
    dreamer benchmark scale --rows 10000000 --table-only --json
    """

    def work() -> Summary:
        from pipelines.benchmark.scale import measure_scale
        from pipelines.recipe_file import load_recipe

        return measure_scale(load_recipe(recipe, tuple(overrides or ())), rows, table_only=table_only)

    execute("Curation without films", work, _scale_rows, json_output=json_output, debug=debug)


def _scale_rows(summary: Summary) -> Rows:
    yield "sources", f"{summary['rows']:,} in {summary['units']:,} units of work"
    for step in summary["steps"]:
        yield (
            step["step"],
            f"{step['seconds']:9,.1f} s {step['rows_per_second']:9,.0f} rows/s "
            f"{step['core_seconds']:9,.1f} core-seconds, driver {step['driver_peak_gb']:.3f} GB "
            f"(+{step['driver_over_baseline_gb']:.3f}), {step['files']:7,} files "
            f"{step['bytes'] / 1e6:8,.1f} MB",
        )
    yield "driver's peak", f"{summary['driver_peak_gb']:.3f} GB"
    if "clips" not in summary:
        return
    yield "a worker's peak", f"{summary['worker_peak_gb']:.3f} GB"
    yield "kept clips", f"{summary['clips']:,}, in {summary['shards']:,} shards"
    for code, count in summary["reasons"].items():
        yield f"  {code}", count


@benchmark.command()
@submittable
def model(
    frames: Annotated[int, typer.Option("--frames", min=2, help="Frames of a clip.")] = 8,
    size: Annotated[int, typer.Option("--size", min=2, help="Side of the latents, in latent pixels.")] = 24,
    widths: Annotated[
        str, typer.Option("--widths", metavar="C,...", help="Channels of the UNet's levels; multiples of 32.")
    ] = "64,128,256,256",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Clips of a step.")] = 1,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rounds; seconds are medians.")] = 7,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of PyTorch; default: as it chooses.")
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """The video UNet beside diffusers' own: operations, time and memory of a training step on the CPU.

    UNetMotionModel (AnimateDiff) and I2VGenXLUNet get the same widths, frames and latents, and random
    weights. Then the operations of our model's parts, and of full and windowed pixel attention. About two
    minutes on two cores; leave the machine alone meanwhile.

    \b
    dreamer benchmark model
    dreamer benchmark model --frames 16 --size 32 --threads 1 --json
    """

    def work() -> Summary:
        from pipelines.benchmark.model import Shape, measure_models

        return measure_models(Shape.of(batch, frames, size, widths), repeats, threads)

    title = "A training step of the video UNet and of its peers, forward and backward, fp32"
    execute(title, work, _model_rows, json_output=json_output, debug=debug)


def _model_rows(summary: Summary) -> Rows:
    side = summary["latent_side"]
    yield (
        "shape",
        f"{summary['clips']} clips of {summary['frames']} frames, latents {side}×{side}, widths "
        f"{summary['widths']}; {summary['threads']} threads, median of {summary['repeats']}",
    )
    for row in summary["models"]:
        yield row["model"], _model_line(row)
    whole = sum(row["gflop"] for row in summary["parts"])
    for row in summary["parts"]:
        yield (
            f"  {row['part']}",
            f"{row['parameters'] / 1e6:8.3f} M parameters {row['gflop']:10.3f} GFLOP "
            f"{row['gflop'] / whole:6.1%}",
        )
    yield "  parts together", f"{whole / summary['models'][0]['gflop']:.4f} of the whole's GFLOP"
    for row in summary["pixel_attention"]:
        costs = (
            f"{name} {row[name]['gflop']:8.2f} GFLOP {row[name]['seconds']:7.3f} s"
            for name in ("full", "windowed")
        )
        yield f"PACA at {row['latent_side']}×{row['latent_side']}", "; ".join(costs)


def _model_line(row: dict[str, Any]) -> str:
    checkpointed = row["peak_mb_checkpointed"]
    return (
        f"{row['parameters'] / 1e6:6.1f} M parameters {row['gflop']:8.1f} GFLOP {row['seconds']:7.3f} s "
        f"{row['seconds_per_tflop']:7.2f} s/TFLOP ({row['of_faster_peer']:.2f} of the faster peer) "
        f"{row['peak_mb']:8,.0f} MB at peak, checkpointed "
        + ("- (it refuses)" if checkpointed is None else f"{checkpointed:,.0f} MB")
    )


@benchmark.command()
@submittable
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="Whose steps to time; default: the recipe's first.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of a block that are counted.")] = 10,
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Blocks of each loop.")] = 8,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """The training loop beside a bare PyTorch loop, on the clips of a curated run directory.

    Blocks of steps of our loop (ZeRO 2, and 3) and of the bare one take turns in one process, in fp32 on one
    worker; the bare one has its batches in memory. Then what encoding on the fly would take, and the seconds
    from `dreamer train` to its first step. Nothing is written to the run directory.

    \b
    dreamer benchmark train runs/mine/recipe.yaml
    dreamer benchmark train demo run_directory=runs/demo --stage high_flow --blocks 12
    """

    def work() -> Summary:
        from pipelines.benchmark.train import measure_training
        from pipelines.recipe_file import load_recipe

        settings = load_recipe(recipe, tuple(overrides or ()))
        command = [sys.executable, "-m", "jobs.cli", "train"]
        return measure_training(settings, command, stage=stage, block_steps=steps, blocks=blocks)

    title = "A training step beside that of a bare loop, fp32, one worker"
    execute(title, work, _training_rows, json_output=json_output, debug=debug)


def _training_rows(summary: Summary) -> Rows:
    yield (
        "stage",
        f"{summary['stage']}: {summary['batch_clips']} clips a step of {_buckets(summary['clips'])}; "
        f"{summary['threads']} threads, medians of {summary['steps']} steps",
    )
    for name, loop in summary["loops"].items():
        overhead = ""
        if "overhead" in loop:
            overhead = f", {loop['overhead']:+.1%}; of the processor's time {loop['processor_overhead']:+.1%}"
        yield (
            LOOPS[name],
            f"{loop['samples_per_second']:.1f} clips/s, {loop['seconds'] * 1e3:.1f} ms a step{overhead}",
        )
    yield "  of it text encoders", f"{summary['text_encoders_share']:.1%}"
    yield "  of it waiting for data", f"{summary['data_wait_share']:.2%}"
    yield "  without text encoders", f"{summary['overhead_without_text_encoders']:+.1%}"
    flying = summary["on_the_fly"]
    yield (
        "encoding on the fly",
        f"{flying['seconds'] * 1e3:.1f} ms a step, {flying['times_as_long']:.2f} times as long: VAE "
        f"{flying['vae_seconds'] * 1e3:.1f} ms, image encoder {flying['image_encoder_seconds'] * 1e3:.1f} ms",
    )
    first = summary["first_step"]
    yield "command to first step", f"{first['seconds']:.1f} s, {first['workers']} workers"
    for name, difference in summary["largest_difference_of_a_loss"].items():
        yield f"{LOOPS[name]}: alike", f"losses differ from the bare loop's by {difference:.1e} at most"


def _buckets(clips: dict[str, int]) -> str:
    return ", ".join(f"{bucket} ({number})" for bucket, number in clips.items())
