"""Evaluated runs as `dreamer evaluate` leaves them, of videos that take no model to draw."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn

from pipelines.evaluation.measure import video_path
from pipelines.evaluation.reference import EvaluationClip, write_clips
from pipelines.media import write_mp4
from pipelines.recipe import Recipe
from pipelines.study.app import create_app
from pipelines.study.plan import Study, StudySettings, make_study
from pipelines.study.votes import VoteStore
from tests.curation_input import EMBEDDED_MODELS
from tests.pipelines.evaluation import evaluation_world

SIDE, FRAMES, FPS = 48, 8, 8
CAPTIONS = tuple(
    f"A {colour} disc over {place} slides to the right"
    for colour in ("red", "blue", "green")
    for place in ("grass", "sand", "water", "snow")
)
COLOURS = {"red": (208, 64, 56), "blue": (56, 96, 200), "green": (48, 150, 84)}
GROUNDS = {
    "grass": (150, 190, 120),
    "sand": (222, 204, 160),
    "water": (150, 190, 214),
    "snow": (236, 240, 244),
}


def clips(captions: Sequence[str] = CAPTIONS, set_name: str = "held_out") -> list[EvaluationClip]:
    return [
        EvaluationClip(
            set=set_name,
            clip_id=f"clip{number:03}",
            uri=f"{number}.mp4",
            start_seconds=0.0,
            frames=FRAMES,
            height=SIDE,
            width=SIDE,
            fps=FPS,
            caption=caption,
            appearance_caption=caption,
            motion_caption="It slides to the right",
        )
        for number, caption in enumerate(captions)
    ]


def frames(caption: str, *, pixels_a_frame: float = 4, noise: float = 0) -> np.ndarray:
    """(T, H, W, 3) uint8: a disc that slides to the right over a plain ground."""
    words = caption.split()
    colour = next((COLOURS[word] for word in words if word in COLOURS), (90, 90, 90))
    ground = next((GROUNDS[word] for word in words if word in GROUNDS), (220, 220, 220))
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    shown = []
    for t in range(FRAMES):
        disc = np.hypot(x - 10 - pixels_a_frame * t, y - 24) < 8
        frame = np.where(disc[..., None], colour, ground) + rng.normal(0, noise, (SIDE, SIDE, 3))
        shown.append(frame.clip(0, 255).astype(np.uint8))
    return np.stack(shown)


def evaluated_run(folder: Path, evaluation: Sequence[EvaluationClip], *, noise: float = 0) -> Path:
    """A run directory with a recipe, drawn videos and real ones."""
    place = folder / "evaluate" / "final"
    for clip in evaluation:
        write_mp4(video_path(place, "generated", clip), frames(clip.caption, noise=noise), FPS)
        write_mp4(video_path(place, "ground_truth", clip), frames(clip.caption, pixels_a_frame=3), FPS)
    write_clips(place / "clips.jsonl", evaluation)
    (place / "metrics.json").write_text(json.dumps({"summary": {}}))
    recipe: Recipe = evaluation_world.recipe(folder, folder / "table.csv", EMBEDDED_MODELS)
    (folder / "recipe.yaml").write_text(recipe.model_dump_json())  # JSON is YAML
    return folder


def study_of(*runs: Path, **settings: object) -> Study:
    return make_study(StudySettings.model_validate({"runs": tuple(map(str, runs)), **settings}))


@contextmanager
def served(study: Study, store: VoteStore) -> Iterator[str]:
    """The study behind a real server on loopback; gives what links begin with."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(study, store), log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
