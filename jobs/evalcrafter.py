"""`dreamer evalcrafter`: videos for EvalCrafter, and final scores of what it measured."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.shell import Debug, Json, ModelOrRun, Rows, Summary, execute
from jobs.submittable import submittable

SUB_SCORES = ("visual", "temporal", "motion", "align")

evalcrafter = typer.Typer(
    help="EvalCrafter: videos in its layout, its final scores, its metrics that need CLIP alone.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Prompts = Annotated[
    Path,
    typer.Option("--prompts", metavar="FILE", help="EvalCrafter's prompt700.txt, or its folder prompts."),
]


@evalcrafter.command()
@submittable
def draw(
    prompts: Prompts,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Gets videos/0000.mp4 and so on, and drawn.json.")
    ],
    model: ModelOrRun = Path("runs/demo"),
    frames: Annotated[int | None, typer.Option("--frames", min=2, help="Length of the videos.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed draws the same videos.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Videos that are drawn at once.")] = 4,
    expander: Annotated[
        str | None,
        typer.Option("--expander", metavar="FOLDER", help="A language model that describes the first frame."),
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Draw a video for every prompt, in EvalCrafter's layout.

    Interrupt whenever you like: videos of this model that are there whole are kept.

    \b
    dreamer evalcrafter draw --prompts EvalCrafter/prompt700.txt --model runs/mine --out EvalCrafter
    """

    def work() -> Summary:
        from pipelines.evaluation.evalcrafter import draw as draw_prompts
        from pipelines.evaluation.evalcrafter import read_prompts

        wanted = read_prompts(prompts)
        from pipelines.evaluation.prompts import Artist, find_model

        artist = Artist(*find_model(model), expander).at(steps, frames)
        return draw_prompts(artist, wanted, out, seed=seed, batch_videos=batch)

    execute("Drawn for EvalCrafter", work, drawn_rows, json_output=json_output, debug=debug)


def drawn_rows(summary: Summary) -> Rows:
    from pipelines.evaluation.evalcrafter import PROMPTS

    yield "model", summary["model"]
    yield "videos", f"{summary['videos']}: {summary['drawn']} drawn, {summary['kept']} kept"
    yield "length", f"{summary['frames']} frames at {summary['fps']:g} a second"
    if summary["prompts"] != PROMPTS:
        yield "note", f"{summary['prompts']} prompts; published totals are over {PROMPTS}"


@evalcrafter.command()
@submittable
def score(
    metrics: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS", help="EvalCrafter's folder results, or a JSON file of its metrics."
        ),
    ],
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """EvalCrafter's final scores from its metric files, beside published totals.

    All 17 metrics must be there; one that is missing is named.

    \b
    dreamer evalcrafter score EvalCrafter/results
    dreamer evalcrafter score metrics.json --json
    """

    def work() -> Summary:
        from dataclasses import asdict

        from pipelines.evaluation.evalcrafter import score as score_files
        from pipelines.evaluation.published import EVALCRAFTER

        return score_files(metrics) | {"published": [asdict(total) for total in EVALCRAFTER]}

    execute("EvalCrafter", work, score_rows, json_output=json_output, debug=debug)


def score_rows(summary: Summary) -> Rows:
    """Ours among the published ones, best total first, then the metrics that it was made of."""
    ours = {"model": "these videos", "source": "", **summary["scores"]}
    for row in sorted([ours, *summary["published"]], key=lambda row: -row["total"]):
        yield row["model"], _told(row)
    yield "", ""
    yield from summary["metrics"].items()


def _told(row: dict[str, Any]) -> str:
    parts = [f"{name} {row[name]:.2f}" for name in SUB_SCORES if row.get(name) is not None]
    source = f"({row['source']})" if row["source"] else ""
    return f"{row['total']:.0f}  " + "  ".join([", ".join(parts), source]).strip()


@evalcrafter.command()
@submittable
def measure(
    videos: Annotated[Path, typer.Argument(metavar="VIDEOS", help="The folder with 0000.mp4 and so on.")],
    prompts: Prompts,
    clip: Annotated[
        str, typer.Option("--clip", metavar="FOLDER", help="EvalCrafter's is openai/clip-vit-base-patch32.")
    ],
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """CLIP-Temp, face consistency and CLIP score of the videos, without EvalCrafter's container.

    They are computed as EvalCrafter does it and are called its own with its CLIP only.

    \b
    dreamer evalcrafter measure EvalCrafter/videos --prompts prompt700.txt --clip clip-vit-base-patch32
    """

    def work() -> Summary:
        from pipelines.evaluation.evalcrafter import read_prompts

        wanted = read_prompts(prompts)
        import torch

        from pipelines.evaluation.evalcrafter_clip import measure as measure_videos
        from pipelines.evaluation.summary import as_json, flat

        found = measure_videos(videos, wanted, clip, "cuda" if torch.cuda.is_available() else "cpu")
        return {"summary": flat(found), "metrics": as_json(found)}

    execute("EvalCrafter's metrics", work, measure_rows, json_output=json_output, debug=debug)


def measure_rows(summary: Summary) -> Rows:
    for metric in summary["metrics"]:
        yield metric["name"], f"{metric['value']:.4f}  ({metric['samples']} videos; {metric['protocol']})"
