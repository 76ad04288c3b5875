"""`dreamer generate`: a prompt, or an image and what shall happen to it, to a video."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.shell import Debug, Json, Rows, Summary, execute


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the video shows.")],
    motion: Annotated[
        str | None, typer.Option("--motion", help="What happens in it; default: read from the prompt.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="The first frame; default: drawn from the prompt.")
    ] = None,
    model: Annotated[Path, typer.Option("--model", help="A model folder, or a run's folder.")] = Path(
        "runs/demo"
    ),
    out: Annotated[Path, typer.Option("--out", help="Folder for mp4, GIF and contact sheet.")] = Path(
        "runs/generated"
    ),
    count: Annotated[int, typer.Option("--count", min=1, help="Videos, each with a seed of its own.")] = 1,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed draws the same video.")] = 0,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Draw a video from a prompt, or from an image.

    A prompt becomes an image and the image a video; with --image it starts from there.

    \b
    dreamer generate "A red star slides to the left over grass"
    dreamer generate "A red star over grass" --motion "The star slides to the left" --seed 7
    dreamer generate "A street" --image street.png --motion "The camera pans left" --model runs/mine
    """

    def work() -> Summary:
        from pipelines.evaluation.generate import generate as draw

        return draw(
            prompt, motion=motion, image=image, model=model, out=out, count=count, steps=steps, seed=seed
        )

    execute("Generated", work, generated_rows, json_output=json_output, debug=debug)


def generated_rows(summary: Summary) -> Rows:
    yield from summary.items()
