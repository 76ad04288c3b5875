"""`dreamer demo`: the whole walk on SpriteWorld, on a laptop."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs.run import run_rows
from jobs.shell import Debug, Json, Overrides, Summary, execute
from jobs.submittable import submittable

CLIPS = 2048
HELD_OUT_CLIPS, HELD_OUT_TWO_CLIPS, HELD_OUT_PAN_CLIPS = 256, 64, 64


@submittable
def demo(
    overrides: Overrides = None,
    clips: Annotated[int, typer.Option("--clips", min=8, help="Training clips of SpriteWorld.")] = CLIPS,
    out: Annotated[Path, typer.Option("--out", help="The run's folder.")] = Path("runs/demo"),
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Run the whole walk on generated videos of sprites.

    Makes SpriteWorld, then curates, trains and evaluates on it: about eleven minutes on two cores.

    \b
    dreamer demo
    dreamer demo --clips 256 --out runs/small train.global_batch_clips=8
    """

    def work() -> Summary:
        from pipelines.preflight import preflight
        from pipelines.recipe_file import load_recipe
        from pipelines.workflow import run_recipe

        table = out / "sprites" / "sprites.csv"
        settings = [f"data.table={table}", f"run_directory={out}", *(overrides or ())]
        recipe = load_recipe("demo", tuple(settings))
        preflight(recipe, ("train", "evaluate"))  # the table is still to be made
        if recipe.data.table == str(table):
            make_world(table.parent, clips)
        return run_recipe(recipe)

    execute("SpriteWorld demo", work, run_rows, json_output=json_output, debug=debug)


def make_world(folder: Path, clips: int) -> None:
    """SpriteWorld in `folder`, unless the same one is there already."""
    import dataclasses

    from pipelines.embedded.sprites import make_sprites
    from pipelines.embedded.world import WorldSettings
    from pipelines.files import write_text

    settings = WorldSettings(
        clips=clips,
        held_out_clips=HELD_OUT_CLIPS,
        held_out_two_clips=HELD_OUT_TWO_CLIPS,
        held_out_pan_clips=HELD_OUT_PAN_CLIPS,
    )
    wanted = json.dumps(dataclasses.asdict(settings), indent=2)
    table, record = folder / "sprites.csv", folder / "world.json"
    if table.is_file() and record.is_file() and record.read_text() == wanted:
        return
    for stale in (record, table):
        stale.unlink(missing_ok=True)
    make_sprites(folder, settings, flow=False)
    write_text(record, wanted)
