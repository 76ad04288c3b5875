"""Write a SpriteWorld: real H.264 files with a table in WebVid's columns."""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.embedded.render import exact_flow, render_clip, stamp
from pipelines.embedded.wording import appearance, caption, motion
from pipelines.embedded.world import CLEAN_CRF, Clip, WorldSettings, clips_of_images, world_clips
from pipelines.files import whole_file
from pipelines.media import write_mp4, write_png
from pipelines.progress import track

COLUMNS = ("videoid", "contentUrl", "duration", "page_dir", "name", "split", "sprites", "camera")
IMAGE_COLUMNS = ("image", "prompt", "motion", "sprites")


def make_sprites(
    out: Path, settings: WorldSettings, *, flow: bool = True, processes: int | None = None
) -> Path:
    """Write `videos/*.mp4`, `flow/*.npz` (when asked for) and last `sprites.csv`; return the table's path.

    Beside them `images/*.png` and `images.csv`: each image with a caption of every motion; and
    `watermark.png`, the mark alone, light on black, if the clips have one. The table is written when every
    file is there, so a table that exists is whole.
    """
    for folder in ("videos", "flow") if flow else ("videos",):
        (out / folder).mkdir(parents=True, exist_ok=True)
    if settings.watermark:
        mark = np.zeros((settings.side_pixels, settings.side_pixels, 3), np.uint8)
        stamp(mark, settings.watermark)
        write_png(out / "watermark.png", mark)
    clips = list(world_clips(settings))
    write = partial(write_clip, out=out, settings=settings, flow=flow)
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        rows = list(_tracked(pool.map(write, clips, chunksize=16), len(clips)))
    write_images(out, settings)
    return _write_table(out / "sprites.csv", COLUMNS, rows)


def write_images(out: Path, settings: WorldSettings) -> Path:
    """Write `images/*.png` and last `images.csv`, where only the motion captions of an image differ."""
    rows = []
    for clip in clips_of_images(settings):
        image = out / "images" / f"{clip.place:06d}.png"
        if clip.sprites[0].motion == settings.motions[0]:
            write_png(
                image, render_clip(clip, np.zeros(1), settings.side_pixels)[0]
            )  # clean, as held-out clips
        rows.append(
            {
                "image": f"images/{image.name}",
                "prompt": appearance(clip),
                "motion": motion(clip),
                "sprites": _labels(clip),
            }
        )
    return _write_table(out / "images.csv", IMAGE_COLUMNS, rows)


def _write_table(table: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> Path:
    with whole_file(table) as unfinished, unfinished.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return table


def _tracked(rows: Iterator[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    with track(total, "SpriteWorld clips") as step:
        for row in rows:
            step.advance()
            yield row


def write_clip(clip: Clip, *, out: Path, settings: WorldSettings, flow: bool) -> dict[str, Any]:
    """Render and encode one clip; return its row of the table."""
    progresses = np.linspace(0, 1, settings.frames)
    watermark, crf = (None, CLEAN_CRF) if clip.held_out else (settings.watermark, settings.crf)
    frames = render_clip(clip, progresses, settings.side_pixels, watermark)
    write_mp4(out / "videos" / f"{clip.name}.mp4", frames, settings.fps, crf=crf)
    if flow:
        pixels = exact_flow(clip, progresses, settings.side_pixels)
        np.savez_compressed(out / "flow" / f"{clip.name}.npz", flow=pixels.astype(np.float16))
    return {
        "videoid": clip.name,
        "contentUrl": f"videos/{clip.name}.mp4",
        "duration": f"PT00H00M{settings.frames // settings.fps:02d}S",
        "page_dir": clip.split,
        "name": caption(clip),
        "split": clip.split,
        "sprites": _labels(clip),
        "camera": clip.camera,
    }


def _labels(clip: Clip) -> str:
    return json.dumps(
        [{"motion": s.motion, "box": s.box(), "shape": s.shape, "colour": s.colour} for s in clip.sprites]
    )
