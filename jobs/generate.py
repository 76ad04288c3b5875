"""`dreamer generate`: prompts, or images and what shall happen to them, to videos."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.shell import Debug, Json, ModelOrRun, Rows, Summary, execute
from jobs.submittable import submittable


@submittable
def generate(
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What the video shows.")] = None,
    motion: Annotated[
        str | None, typer.Option("--motion", help="What happens in it; default: read from the prompt.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="The first frame; default: drawn from the prompt.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Many at once: a .txt file with a prompt per line, or a CSV, JSONL or Parquet table with "
            "the column prompt and, where wanted, motion, image and seed.",
        ),
    ] = None,
    model: ModelOrRun = Path("runs/demo"),
    out: Annotated[Path, typer.Option("--out", help="Folder for mp4, GIF and contact sheet.")] = Path(
        "runs/generated"
    ),
    count: Annotated[
        int, typer.Option("--count", min=1, help="Videos of each prompt, each with a seed of its own.")
    ] = 1,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", min=1, help="Length of the video; may be more than the model was trained on."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed draws the same video.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Videos that are drawn at once.")] = 4,
    expander: Annotated[
        str | None,
        typer.Option(
            "--expander",
            metavar="FOLDER",
            help="A language model that describes the first frame in more detail than the prompt does.",
        ),
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Draw videos from prompts, or from images.

    A prompt becomes an image and the image a video; with --image it starts from there.

    \b
    dreamer generate "A red star slides to the left over grass"
    dreamer generate "A red star over grass" --motion "The star slides to the left" --seed 7
    dreamer generate "A street" --image street.png --motion "The camera pans left" --model runs/mine
    dreamer generate --prompts prompts.csv --model runs/mine --out videos --frames 32
    """
    if (prompt is None) == (prompts is None):
        raise typer.BadParameter("give a PROMPT, or a file of them with --prompts FILE")
    if prompts is not None and (motion is not None or image is not None):
        raise typer.BadParameter("with --prompts, motion and image are columns of the file")

    def work() -> Summary:
        from pipelines.evaluation.prompts import Request, read_requests, repeated
        from pipelines.evaluation.prompts import generate as draw

        asked = [Request(prompt, motion, image, seed)] if prompt else read_requests(prompts or Path(), seed)
        requests = [one for request in asked for one in repeated(request, count)]
        return draw(
            requests, model=model, out=out, steps=steps, frames=frames, expander=expander, batch_videos=batch
        )

    execute("Generated", work, generated_rows, json_output=json_output, debug=debug)


SHOWN_VIDEOS = 8


def generated_rows(summary: Summary) -> Rows:
    yield "model", summary["model"]
    for video in summary["videos"][:SHOWN_VIDEOS]:
        yield video["video"], f"{video['appearance']} | {video['motion'] or '(no motion)'}"
    if (more := len(summary["videos"]) - SHOWN_VIDEOS) > 0:
        yield "", f"and {more} more"
    yield "contact sheet", summary["contact_sheet"]
