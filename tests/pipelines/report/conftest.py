"""A small run of real curation for the tests of its page, and what a whole run leaves beside it."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.evaluation.measure import video_path
from pipelines.evaluation.reference import EvaluationClip, write_clips
from pipelines.layout import RunLayout
from pipelines.media import contact_sheet, video_grid, write_mp4
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.report.comparison import write_comparison
from pipelines.report.page import write_report
from pipelines.workflow import run_recipe, write_recipe
from tests.curation_input import EMBEDDED_MODELS, curation_recipe, write_rows

HOSTILE = '<script>alert("caption")</script> A red star <img src=x onerror=alert(1)> slides to the left'
FILTERS = {"min_motion": 0.2, "max_static": 0.5, "max_luminance": 150, "max_phash_distance": 2}


@pytest.fixture(scope="session")
def table(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of SpriteWorld, one of them with a hostile caption and one twice, and rows of bad files."""
    folder = tmp_path_factory.mktemp("report_table")
    with (sprites / "sprites.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = [*rows[:10], *[row for row in rows if row["split"] != "train"][:4]]
    for row in rows:
        shutil.copy(sprites / row["contentUrl"], folder / Path(row["contentUrl"]).name)
        row["contentUrl"] = Path(row["contentUrl"]).name
    rows[0]["name"] = HOSTILE
    shutil.copy(folder / rows[1]["contentUrl"], folder / "copy.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    for name in ("copy.mp4", "empty.mp4", "text.mp4", "gone.mp4"):
        rows.append(rows[1] | {"videoid": name.removesuffix(".mp4"), "contentUrl": name})
    return write_rows(folder / "table.csv", rows)


@pytest.fixture(scope="session")
def recipe_for(table: Path) -> Callable[..., Recipe]:
    def make(run_directory: Path, **filters: Any) -> Recipe:
        return curation_recipe(
            run_directory,
            table,
            EMBEDDED_MODELS,
            name="small <run>",
            columns={"split": "split"},
            units=3,
            shots={"detector": "none"},
            filters=FILTERS | filters,
            precompute={"splits": ["train"]},
        )

    return make


@pytest.fixture(scope="session")
def run(recipe_for: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run directory after `dreamer curate`."""
    recipe = recipe_for(tmp_path_factory.mktemp("report_run"))
    run_recipe(recipe, ("curate",))
    return recipe


# ---------------------------------------------------------------- what training and evaluation leave

CAPTIONS = ("A red star slides to the left", "A moon <b>rises</b>", "A circle stands still", "A heart grows")
MOTION_STRENGTHS = {"generated": (0.02, 0.2, 0.3, 0.4), "ground_truth": (0.1, 0.2, 0.3, 0.4)}
PSNR_DB = (20.0, 24.0, 28.0, 32.0)
NETWORK = "8a741c14bf82ec57f57b71cbf5043870bf9eea411dfed25d4d22e131c03675b2"


def finished_run(curated: Recipe, root: Path, *, better_db: float = 0.0, **changes: Any) -> RunLayout:
    """A run directory as a whole `dreamer run` leaves it, with hand-made logs, videos and measures, and an
    ablation that is not finished.

    better_db: by how much its first frames are nearer to the given ones than another's.
    """
    shutil.copytree(curated.run_directory, root, ignore=shutil.ignore_patterns("shards"))
    layout, demo = RunLayout(root), load_recipe("demo")
    tiers = {**curated.curation.tiers, "high": curated.curation.tiers["low"]}
    labels = curated.data.columns.model_copy(update={"labels": demo.data.columns.labels})
    update = {
        "run_directory": str(root),
        "train": demo.train,
        "evaluate": demo.evaluate,
        "curation": curated.curation.model_copy(update={"tiers": tiers}),
        "data": curated.data.model_copy(update={"columns": labels}),
    }
    write_recipe(curated.model_copy(update=update | changes), layout)
    write_stage(layout, "new_parts", 400)
    write_stage(layout, "high_flow", 30, flow=True)
    write_evaluation(layout.evaluation("final"), better_db)
    (root / "ablate").mkdir()
    (root / "ablate" / "ablation.json").write_text(json.dumps(ABLATION))
    return layout


def write_stage(layout: RunLayout, name: str, steps: int, *, flow: bool = False) -> None:
    """A log that falls from 1 to 0.1 with one spike, validations, and samples of two steps."""
    lines = []
    for step in range(1, steps + 1):
        loss = 0.1 + 0.9 * 0.97**step
        seconds = {"data": 0.1, "forward": 0.4, "backward": 1.0, "optimizer": 0.5, "checkpoint": 0.0}
        line = {
            "step": step,
            "samples": step * 16,
            "loss": loss + 0.02 * flow,
            "loss_diffusion": loss,
            "loss_flow": 0.2 * flow,
            "learning_rate": min(step, 10) * 1e-4,
            "grad_norm": 40.0 if step == steps // 2 else 0.2,
            "seconds_total": 2.0,
            **{f"seconds_{phase}": value for phase, value in seconds.items()},
            "samples_per_second": 8.0,
            "peak_memory_gb": 1.25,
        }
        lines.append(json.dumps(line) + "\n")
    folder = layout.stage(name)
    folder.mkdir(parents=True)
    layout.log(name).write_text("".join(lines) + '{"step": 9, "lo')  # a run that was killed while it wrote
    held_out = [{"step": step, "loss": 0.5 - 0.001 * step, "clips": 4} for step in (10, 20, 30)]
    (folder / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in held_out))
    for step in (10, 30):
        videos = [(caption, video(number)) for number, caption in enumerate(CAPTIONS)]
        contact_sheet(folder / "samples" / f"step-{step:08d}.png", videos)
        write_mp4(folder / "samples" / f"step-{step:08d}.mp4", video_grid(videos), 8)


def write_evaluation(folder: Path, better_db: float) -> None:
    """Four clips, drawn, real and by the untrained model, with their measures and the metrics of those."""
    size = {"frames": 8, "height": 32, "width": 32, "fps": 8.0, "start_seconds": 0.0}
    clips = [
        EvaluationClip(
            "held_out", f"clip{n}", f"{n}.mp4", caption=c, appearance_caption=c, motion_caption="", **size
        )
        for n, c in enumerate(CAPTIONS)
    ]
    write_clips(folder / "clips.jsonl", clips)
    rows = []
    for variant, strengths in MOTION_STRENGTHS.items():
        for number, clip in enumerate(clips):
            write_mp4(video_path(folder, variant, clip), video(number), 8)
            row = {"variant": variant, "set": clip.set, "clip_id": clip.clip_id}
            row |= {"motion_strength": strengths[number], "first_frame_psnr_db": PSNR_DB[number] + better_db}
            seen = "left" if number % 2 or variant == "ground_truth" else "up"
            rows.append(row | {"objects": [{"asked": "left", "seen": seen}]})
    (folder / "measures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = [
        metric("motion_accuracy", 0.5, interval=(0.15, 0.85)),
        metric("motion_accuracy_ground_truth", 1.0, interval=(0.51, 1.0)),
        metric("first_frame_psnr_db", 26.0 + better_db),
        metric("first_frame_psnr_db_untrained", 12.0),
        metric("dynamic_degree", 0.75),
        metric("fvd_tiny_classifier_n4_8f", 58.5, feature_network_sha256=NETWORK),
        metric("motion_accuracy_two", 0.25, interval=(0.1, 0.5)),
        metric("motion_accuracy_ground_truth_two", 0.99),
    ]
    (folder / "metrics.json").write_text(json.dumps({"metrics": metrics}))
    (folder / "step.json").write_text(json.dumps({"seconds": 129.0}))
    noise = np.random.default_rng(0).integers(0, 255, (900, 2400, 3), np.uint8)
    Image.fromarray(noise).save(folder / "grid.png")


def metric(name: str, value: float, **more: Any) -> dict[str, Any]:
    """An entry of metrics.json."""
    common = {"protocol": "by <hand>", "samples": 4, "frames": 8, "fps": 8.0, "resize": "none", "seed": 0}
    return {"name": name, "value": value, **common, **more}


def arm_result(values: dict[str, float], mean: float, *difference: float) -> dict[str, Any]:
    paired = dict(zip(("difference", "low", "high"), difference, strict=False))
    return {"values": values, "mean": mean, "deviation": 0.015, **paired}


ABLATION = {
    "base": "full",
    "seeds": [0, 1, 2],
    "metrics": [{"name": "accuracy", "better": "higher"}, {"name": "distance", "better": "lower"}],
    "arms": [
        {
            "name": "full",
            "title": "the recipe as it is",
            "changes": [],
            "results": {
                "accuracy": arm_result({"0": 0.9, "1": 0.92, "2": 0.94}, 0.92),
                "distance": arm_result({"0": 40, "1": 41, "2": 42}, 41),
            },
        },
        {
            "name": "no_paca",
            "title": "without <PACA>",
            "changes": ["model.pixel_attention=false"],
            "results": {
                "accuracy": arm_result({"0": 0.9, "1": 0.9}, 0.9, -0.02, -0.05, 0.01),
                "distance": arm_result({"0": 50, "1": 51, "2": 52}, 51, 10, 8, 12),
            },
        },
        {"name": "no_motion", "title": "without motion captions", "changes": [], "results": {}},
        {
            "name": "more",
            "title": "more steps",
            "changes": [],
            "results": {"distance": arm_result({"0": 30, "1": 31, "2": 32}, 31, -10, -12, -8)},
        },
    ],
}


def video(number: int) -> np.ndarray:
    """(8, 32, 32, 3): a bright square that walks."""
    frames = np.full((8, 32, 32, 3), 40 * number, np.uint8)
    for t in range(8):
        frames[t, 8:20, 2 * t : 2 * t + 12] = (250, 200, 60 * number)
    return frames


@pytest.fixture(scope="session")
def trained(run: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    """A run that was trained and evaluated."""
    return finished_run(run, tmp_path_factory.mktemp("trained") / "first")


@pytest.fixture(scope="session")
def other(run: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    """Another one of the same clips: half the learning rate in one stage, nearer first frames."""
    demo = load_recipe("demo")
    stages = [stage.model_copy(update={"learning_rate": 1.5e-3}) for stage in demo.train.stages[:1]]
    train = demo.train.model_copy(update={"stages": (*stages, *demo.train.stages[1:])})
    root = tmp_path_factory.mktemp("other") / "second"
    return finished_run(run, root, better_db=1.5, train=train, seed=1)


@pytest.fixture(scope="session")
def page_of_trained(trained: RunLayout) -> str:
    return Path(write_report(trained.root)["report"]).read_text()


@pytest.fixture(scope="session")
def comparison_page(trained: RunLayout, other: RunLayout) -> Path:
    return Path(write_comparison(trained.root, other.root)["report"])
