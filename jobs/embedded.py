"""`dreamer embedded`: make SpriteWorld, and train the tiny models on it."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from jobs.shell import Debug, Json, Rows, Summary, execute
from jobs.submittable import submittable

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to.")]


@submittable
def sprites(
    out: Out,
    clips: Annotated[int, typer.Option(min=1, help="Clips of the training split.")] = 512,
    seed: Annotated[int, typer.Option(help="Another seed, another world.")] = 0,
    validation_clips: Annotated[int, typer.Option(min=0)] = 32,
    held_out_clips: Annotated[
        int, typer.Option(min=0, help="One sprite, still camera, combinations never trained on.")
    ] = 64,
    held_out_two_clips: Annotated[int, typer.Option(min=0, help="The same with two sprites.")] = 16,
    held_out_pan_clips: Annotated[int, typer.Option(min=0, help="The same with a moving camera.")] = 16,
    images: Annotated[
        int, typer.Option(min=0, help="Images to animate, each with a caption of every motion.")
    ] = 8,
    two_sprites_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of training clips with two sprites.")
    ] = 0.1,
    pan_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of training clips with a camera pan.")
    ] = 0.1,
    crossing: Annotated[
        bool, typer.Option("--crossing", help="Two sprites pass over each other instead of side by side.")
    ] = False,
    detail: Annotated[float, typer.Option(min=0, help="Contrast of textures: 1 smooth, 4 strong.")] = 1.0,
    light_spread: Annotated[
        float, typer.Option(min=0, help="Scenes are up to so much darker or brighter, below 1.")
    ] = 0.0,
    side_pixels: Annotated[int, typer.Option(min=16, help="Height and width of the videos.")] = 96,
    frames: Annotated[int, typer.Option(min=2)] = 16,
    fps: Annotated[int, typer.Option(min=1, help="Frames per second.")] = 16,
    watermark: Annotated[
        str | None, typer.Option(help="Text laid over the training and validation clips.")
    ] = None,
    crf: Annotated[
        int, typer.Option(min=0, max=51, help="H.264 compression of the same clips: 18 good, 40 poor.")
    ] = 18,
    flow: Annotated[bool, typer.Option(help="Write the exact optical flow beside the videos.")] = True,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Make SpriteWorld: videos of moving sprites.

    Real mp4 files, with a table as stock sites have it and the exact optical flow; and single images with
    motion captions, for image to video.

    \b
    dreamer embedded sprites data/sprites --clips 512 --seed 0
    dreamer embedded sprites data/poor --clips 128 --crf 40 --watermark "STOCK"
    """
    options = dict(locals())

    def work() -> Summary:
        from pipelines.embedded.sprites import make_sprites
        from pipelines.embedded.world import WorldSettings
        from pipelines.recipe import RecipeError

        names = {field.name for field in dataclasses.fields(WorldSettings)}
        try:
            settings = WorldSettings(**{name: value for name, value in options.items() if name in names})
        except ValueError as error:
            raise RecipeError(str(error)) from error
        return {"table": str(make_sprites(out, settings, flow=flow)), **dataclasses.asdict(settings)}

    def rows(summary: Summary) -> Rows:
        yield "table", summary["table"]
        yield "training clips", summary["clips"]
        yield (
            "look at it",
            f"dreamer curate demo data.table={summary['table']} run_directory=runs/look --limit 20",
        )

    execute("SpriteWorld", work, rows, json_output=json_output, debug=debug)


@submittable
def models(
    out: Out,
    steps_share: Annotated[
        float, typer.Option(min=0.0001, help="Share of the usual training steps; 0.01 is a trial.")
    ] = 1.0,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Train the tiny models on SpriteWorld.

    VAE, CLIP, T5, text-to-image model and video classifier, saved as the big ones are.

    \b
    dreamer embedded models weights                       an hour and a half on two cores
    dreamer embedded models trial --steps-share 0.01      a trial of the job

    Models that lie in OUT already are kept. Those of this package came from this command.
    """

    def work() -> Summary:
        from pipelines.embedded.train_models import train_models

        return dict(train_models(out, steps_share=steps_share))

    execute("Tiny models", work, lambda summary: summary.items(), json_output=json_output, debug=debug)
