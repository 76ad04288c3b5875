"""The whole of curation on a small table with good and bad rows."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from modeling.latents import decode_latents
from pipelines.curation.clip_table import SCHEMA, read_clips
from pipelines.curation.decode import DecoderProcess
from pipelines.curation.manifest import list_shards, manifest_entries
from pipelines.curation.precompute import Networks
from pipelines.curation.run import check_books, curate, summarise
from pipelines.curation.shards import decode_row, shard_metadata
from pipelines.curation.sources import unit_of
from pipelines.curation.verdicts import CurationError
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe, RecipeError
from tests.curation_input import curation_recipe, source_row, write_rows
from tests.outcome import file_hashes

pytestmark = pytest.mark.usefixtures("ray")

GOOD = 6
CAPTIONS = ("A red square slides to the right over grass", "Blue square, camera pans left")


@pytest.fixture(scope="module")
def table(
    tmp_path_factory: pytest.TempPathFactory,
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
) -> Path:
    """Six good videos, a still one, a copy, and bad rows of several kinds."""
    folder = tmp_path_factory.mktemp("table")
    for number in range(GOOD):
        make_video(folder / f"good {number} ü.mp4", make_scene(number, 20))
    make_video(folder / "still.mp4", make_scene(50, 20, pixels_per_frame=0))
    make_video(folder / "copy.mp4", make_scene(0, 20, height=96, width=128), crf="30")
    make_video(folder / "short.mp4", make_scene(60, 6))
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").write_bytes(b"")
    whole = make_video(folder / "whole.mp4", make_scene(70, 40), movflags="faststart")
    (folder / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    names = [f"good {number} ü.mp4" for number in range(GOOD)]
    names += [
        "still.mp4",
        "copy.mp4",
        "short.mp4",
        "text.mp4",
        "empty.mp4",
        "half.mp4",
        "gone.mp4",
        "../up.mp4",
    ]
    rows = [
        {
            "videoid": f"v{number}",
            "contentUrl": name,
            "name": CAPTIONS[number % 2],
            "part": "held_out" if number == 5 else "train",
        }
        for number, name in enumerate(names)
    ]
    return write_rows(folder / "table.csv", rows)


@pytest.fixture(scope="module")
def recipe_for(tiny_models: dict[str, str], table: Path) -> Callable[..., Recipe]:
    def make(run_directory: Path, *, table: Path = table, filters: dict[str, Any] | None = None) -> Recipe:
        return curation_recipe(
            run_directory,
            table,
            tiny_models,
            columns={"split": "part"},
            units=3,
            tiers={"low": ["8x32x32"], "high": ["8x48x64", "8x64x48"]},
            filters={"max_static": 0.8, "max_phash_distance": 6, **(filters or {})},
            precompute={"batch_clips": 2, "row_group_clips": 2},
        )

    return make


@pytest.fixture(scope="module")
def first_run(
    tmp_path_factory: pytest.TempPathFactory, recipe_for: Callable[..., Recipe]
) -> tuple[Recipe, dict[str, Any]]:
    recipe = recipe_for(tmp_path_factory.mktemp("runs") / "first")
    return recipe, curate(recipe)


@pytest.fixture(scope="module")
def two_videos(
    tmp_path_factory: pytest.TempPathFactory,
    recipe_for: Callable[..., Recipe],
    make_video: Any,
    make_scene: Any,
) -> Path:
    """Videos `a` and `b`, their table `t.csv`, and their curated `run`: to be read, or copied and changed."""
    folder = tmp_path_factory.mktemp("two")
    table = write_two(folder, make_video, make_scene)
    curate(recipe_for(folder / "run", table=table))
    return folder


def write_two(folder: Path, make_video: Callable[..., Path], make_scene: Any) -> Path:
    """The table of two new videos."""
    for seed, name in enumerate("ab"):
        make_video(folder / f"{name}.mp4", make_scene(seed, 20))
    return write_rows(folder / "t.csv", [source_row(name, part="train") for name in "ab"])


def layout_of(recipe: Recipe) -> RunLayout:
    return RunLayout(Path(recipe.run_directory))


def hashes(recipe: Recipe) -> dict[str, str]:
    folder, names = layout_of(recipe).data, ("shards", "clips", "manifest", "scores")
    return file_hashes(folder, [path for name in names for path in (folder / name).rglob("*.*")])


def test_every_source_ends_in_the_books(first_run: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, summary = first_run
    assert summary["sources"] == 14
    assert (summary["kept"], summary["filtered"], summary["failed"], summary["quarantined"]) == (6, 3, 5, 0)
    assert summary["reasons"] == {
        "not_found": 1,
        "outside_root": 1,
        "empty_file": 1,
        "not_a_video": 1,
        "incomplete": 1,
        "too_short": 1,
        "static": 1,
        "duplicate": 1,
    }
    assert summary["buckets"] == {"8x32x32": 6, "8x48x64": 6}
    told = {row["bucket"]: row["clips"] for row in summary["forecast"]["buckets"]}
    assert told == {"8x32x32": 5, "8x48x64": 5, "8x64x48": 0}  # one kept clip is in a split without shards
    assert summary["forecast"]["dropped"] == summary["reasons"]
    assert [source for source, _ in summary["unreadable"]] == ["v10", "v11", "v12", "v13", "v9"]
    assert summary["unreadable"][0] == ["v10", "empty_file"]
    table = read_clips(layout_of(recipe), verdict=None)
    assert table.schema.names == SCHEMA.names
    assert set(table["source_id"].to_pylist()) == {f"v{number}" for number in range(14)}
    json.dumps(summary)


def test_the_clip_table_says_what_was_found(first_run: tuple[Recipe, dict[str, Any]]) -> None:
    rows = {row["source_id"]: row for row in read_clips(layout_of(first_run[0]), verdict=None).to_pylist()}
    kept = rows["v2"]
    assert kept["caption"] == CAPTIONS[0]
    assert kept["appearance_caption"] == "A red square over grass"
    assert kept["motion_caption"] == "square slides to the right"
    assert (kept["start_seconds"], kept["end_seconds"], kept["shot_end_seconds"]) == (0, 1, 1.25)
    assert (kept["width"], kept["height"], kept["source_fps"]) == (128, 96, 16)
    assert kept["bucket"] == "8x32x32 8x48x64"
    assert kept["text_area"] is None
    assert rows["v6"]["reason"] == "static: 1 > 0.8"
    assert rows["v12"]["clip_id"] is None
    twins = {source: rows[source] for source in ("v0", "v7")}
    (copy,) = [row for row in twins.values() if row["verdict"] == "filtered"]
    (original,) = [row for row in twins.values() if row["verdict"] == "kept"]
    assert copy["duplicate_of"] == original["clip_id"]
    assert original["clip_id"] < copy["clip_id"]


def test_shards_hold_what_the_contract_says(first_run: tuple[Recipe, dict[str, Any]]) -> None:
    layout = layout_of(first_run[0])
    shapes = {
        "latents_mean": (4, 8, 12, 16),
        "latents_std": (4, 8, 12, 16),
        "flow": (2, 7, 12, 16),
        "flow_valid": (7, 12, 16),
        "image_features": (16, 16),
        "text_ids": (16,),
        "motion_ids": (64,),
    }
    found = []
    for path in list_shards(layout, "8x48x64"):
        metadata = shard_metadata(path)
        assert metadata["bucket"] == "8x48x64"
        for row in pq.read_table(path).to_pylist():
            decoded = decode_row(row, metadata)
            assert {name: tuple(decoded[name].shape) for name in shapes} == shapes
            assert decoded["flow_valid"].dtype == torch.bool
            found.append(decoded["clip_id"])
    kept = read_clips(layout, split="train")
    assert sorted(found) == kept["clip_id"].to_pylist()
    assert sum(entry["rows"] for entry in manifest_entries(layout)) == 2 * len(found)


def test_latents_and_flow_are_those_of_the_clip(
    first_run: tuple[Recipe, dict[str, Any]], table: Path
) -> None:
    recipe, _ = first_run
    networks = Networks(recipe)
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"  # eight times as fast on an A100
    path = list_shards(layout_of(recipe), "8x48x64")[0]
    row = decode_row(pq.read_table(path).to_pylist()[0], shard_metadata(path))
    (clip,) = [c for c in read_clips(layout_of(recipe)).to_pylist() if c["clip_id"] == row["clip_id"]]
    with DecoderProcess() as decoder:
        frames = decoder.clip(str(table.parent / clip["source_uri"]), clip["start_seconds"], 8, 8, 48, 64)
    (expected,) = networks.encode(frames[None])
    assert np.abs(expected["latents_mean"].astype(float) - row["latents_mean"].numpy()).max() < 0.02
    pixels = decode_latents(networks.vae, row["latents_mean"].transpose(0, 1).float())
    assert pixels.shape == (8, 3, 48, 64)
    moving = row["flow"][0][row["flow_valid"]]
    # 2 pixels a frame at 16 fps are 4 at 8 fps, one latent pixel of 8 source pixels is half that.
    assert moving.float().quantile(0.99) == pytest.approx(0.5, abs=0.15)


def test_a_second_run_does_nothing(first_run: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, summary = first_run
    before = hashes(recipe)
    again = curate(recipe)
    assert (again["decoded_sources"], again["computed_clips"]) == (0, 0)
    assert {key: again[key] for key in ("kept", "reasons", "buckets")} == {
        key: summary[key] for key in ("kept", "reasons", "buckets")
    }
    assert hashes(recipe) == before


def test_another_order_of_rows_gives_the_same_bytes(
    first_run: tuple[Recipe, dict[str, Any]], table: Path, tmp_path: Path, recipe_for: Callable[..., Recipe]
) -> None:
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    turned = write_rows(table.with_name("turned.csv"), rows[::-1])
    other = recipe_for(tmp_path / "elsewhere" / "run", table=turned)
    curate(other)
    assert hashes(other) == hashes(first_run[0])


def test_a_threshold_decides_anew_and_decodes_nothing(
    first_run: tuple[Recipe, dict[str, Any]], tmp_path: Path, recipe_for: Callable[..., Recipe]
) -> None:
    shutil.copytree(first_run[0].run_directory, tmp_path / "run")
    strict = recipe_for(tmp_path / "run")
    loose = curate(recipe_for(tmp_path / "run", filters={"max_static": None}))
    assert (loose["clips"], loose["decoded_sources"], loose["computed_clips"]) == (7, 0, 1)
    again = curate(strict)
    assert (again["clips"], again["decoded_sources"], again["computed_clips"]) == (6, 0, 0)
    assert hashes(strict) == hashes(first_run[0])


def test_a_clip_does_not_depend_on_its_neighbours(first_run: tuple[Recipe, dict[str, Any]]) -> None:
    networks = Networks(first_run[0])
    clips = np.random.default_rng(0).integers(0, 255, (2, 8, 32, 32, 3), np.uint8)
    together = list(networks.encode(clips))
    (alone,) = networks.encode(clips[1:])
    for name, values in alone.items():
        assert np.array_equal(values, together[1][name])


def test_new_rows_retries_and_lost_shards_cost_only_themselves(
    tmp_path: Path,
    recipe_for: Callable[..., Recipe],
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
) -> None:
    rows = [source_row(name, part="train") for name in "abc"]
    for seed, name in enumerate("ac"):
        make_video(tmp_path / f"{name}.mp4", make_scene(seed, 20))
    table = write_rows(tmp_path / "t.csv", rows[:2])
    recipe = recipe_for(tmp_path / "run", table=table)
    assert curate(recipe)["failed"] == 1
    make_video(tmp_path / "b.mp4", make_scene(2, 20))
    write_rows(table, rows)
    summary = curate(recipe, retry_failed=True)
    assert (summary["failed"], summary["kept"], summary["decoded_sources"]) == (0, 3, 2)
    assert summary["computed_clips"] == 2
    before = hashes(recipe)
    lost = list_shards(layout_of(recipe), "8x32x32")[0]
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=lost.name):
        list_shards(layout_of(recipe), "8x32x32")
    assert curate(recipe)["decoded_sources"] == 0
    assert hashes(recipe) == before


def test_a_first_look_does_not_take_sources_out_of_a_run(first_run: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, _ = first_run
    before = hashes(recipe)
    data = recipe.data.model_copy(update={"limit": 2})
    with pytest.raises(CurationError, match=r"data\.limit=2 would drop 12 sources"):
        curate(recipe.model_copy(update={"data": data}))
    assert hashes(recipe) == before


def test_nothing_kept_stops_before_precompute(
    first_run: tuple[Recipe, dict[str, Any]], tmp_path: Path, recipe_for: Callable[..., Recipe]
) -> None:
    recipe = recipe_for(tmp_path / "run", filters={"min_motion": 1e6})
    shutil.copytree(layout_of(first_run[0]).scores, layout_of(recipe).scores)
    with pytest.raises(CurationError, match=r"no clip is kept of 14 sources: .*low_motion .*Loosen"):
        curate(recipe)
    assert not layout_of(recipe).manifest.exists()


def test_a_missing_table_stops_at_once(tmp_path: Path, recipe_for: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"no table or folder .*absent\.csv"):
        curate(recipe_for(tmp_path / "run", table=tmp_path / "absent.csv"))


def test_books_that_do_not_balance_name_what_is_missing() -> None:
    unit = {"sources": 2, "books": {"kept": 1}, "missing": ["v9"], "unknown": [], "clips": 1}
    counts = [unit | {"reasons": {}, "buckets": {}, "unreadable": []}]
    with pytest.raises(CurationError, match=r"2 sources, but 1 verdicts; without a verdict: v9"):
        check_books(summarise(counts), counts)


def test_a_source_that_is_taken_down_leaves_clips_and_shards_for_good(
    first_run: tuple[Recipe, dict[str, Any]], tmp_path: Path, recipe_for: Callable[..., Recipe]
) -> None:
    shutil.copytree(first_run[0].run_directory, tmp_path / "run")
    recipe = recipe_for(tmp_path / "run")
    layout = layout_of(recipe)
    sources = first_run[1]["sources"]
    before, shards_before = hashes(recipe), shard_rows(recipe)
    original = next(row for row in read_clips(layout).to_pylist() if row["source_id"] in ("v0", "v7"))
    (tmp_path / "out.txt").write_text(f"{original['source_id']}\nv1\nnever seen\n")
    excluding = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"exclude_sources": str(tmp_path / "out.txt")})}
    )
    summary = curate(excluding)
    assert (summary["decoded_sources"], summary["computed_clips"]) == (0, 0)
    assert summary["reasons"]["excluded"] == 2
    # The copy of what was taken down does not come back in its place.
    assert summary["reasons"]["duplicate"] == 1
    gone = {
        row["clip_id"] for row in read_clips(layout, verdict=None).to_pylist() if row["reason"] == "excluded"
    }
    assert shard_rows(recipe) == {key: row for key, row in shards_before.items() if key[1] not in gone}
    after = hashes(recipe)
    units = {name.split("/")[-1][:5] for name in before if before[name] != after.get(name)}
    assert units == {f"{unit_of(source, 3):05d}" for source in (original["source_id"], "v1")}
    assert curate(recipe)["reasons"]["excluded"] == 2  # remembered without the option
    # Nor when all the others are scored anew.
    reading = recipe.curation.filters.model_copy(update={"max_text_area": 1.0})
    rescored = curate(
        recipe.model_copy(update={"curation": recipe.curation.model_copy(update={"filters": reading})})
    )
    assert rescored["decoded_sources"] == sources - 2
    assert (rescored["reasons"]["excluded"], rescored["reasons"]["duplicate"]) == (2, 1)
    assert curate(recipe)["reasons"]["excluded"] == 2
    (layout.data / "excluded_sources.txt").unlink()
    assert curate(recipe)["decoded_sources"] == 0
    assert before.items() <= hashes(recipe).items()  # beside the scores of other settings


def shard_rows(recipe: Recipe) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of all shards by bucket and clip id."""
    layout = layout_of(recipe)
    return {
        (bucket, row["clip_id"]): row
        for bucket in ("8x32x32", "8x48x64")
        for path in list_shards(layout, bucket)
        for row in pq.read_table(path).to_pylist()
    }


def test_an_excluded_source_is_never_opened(
    tmp_path: Path, recipe_for: Callable[..., Recipe], make_video: Callable[..., Path], make_scene: Any
) -> None:
    recipe = recipe_for(tmp_path / "run", table=write_two(tmp_path, make_video, make_scene))
    (tmp_path / "out.txt").write_text("a\n")
    data = recipe.data.model_copy(update={"exclude_sources": str(tmp_path / "out.txt")})
    summary = curate(recipe.model_copy(update={"data": data}))
    assert (summary["decoded_sources"], summary["kept"], summary["filtered"]) == (1, 1, 1)
    (layout_of(recipe).data / "excluded_sources.txt").unlink()
    assert curate(recipe)["decoded_sources"] == 1


def test_a_clip_that_could_not_be_read_again_is_retried_when_asked(
    tmp_path: Path, two_videos: Path, recipe_for: Callable[..., Recipe]
) -> None:
    whole = recipe_for(two_videos / "run", table=two_videos / "t.csv")
    shutil.copytree(two_videos, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run"))
    recipe = recipe_for(tmp_path / "run", table=tmp_path / "t.csv")
    # Pass 1 saw both files; one is gone when pass 2 comes to it.
    shutil.copytree(layout_of(whole).scores, layout_of(recipe).scores)
    (tmp_path / "b.mp4").rename(tmp_path / "away.mp4")
    summary = curate(recipe)
    assert (summary["decoded_sources"], summary["kept"], summary["failed"]) == (0, 1, 1)
    assert summary["reasons"] == {"changed": 1}
    assert curate(recipe)["failed"] == 1
    (tmp_path / "away.mp4").rename(tmp_path / "b.mp4")
    summary = curate(recipe, retry_failed=True)
    assert (summary["kept"], summary["failed"], summary["computed_clips"]) == (2, 0, 1)
    assert hashes(recipe) == hashes(whole)


class FourPixels(torch.nn.Module):
    """Estimates that everything moves four pixels along the rows, and back when asked the other way round."""

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        way = torch.sign((other - one).mean((1, 2, 3)))  # (N,)
        return torch.stack([4 * way[:, None, None] + 0 * one[:, 0], 0 * one[:, 0]], 1)  # (N, 2, H, W)


def test_flow_comes_from_the_network_that_the_recipe_names(
    tmp_path: Path, two_videos: Path, recipe_for: Callable[..., Recipe]
) -> None:
    sizes = {0: torch.export.Dim("pairs"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    pair = (torch.zeros(3, 3, 32, 48), torch.zeros(3, 3, 32, 48))
    torch.export.save(
        torch.export.export(FourPixels(), pair, dynamic_shapes=(sizes, sizes)), tmp_path / "flow.pt2"
    )
    shutil.copytree(two_videos, tmp_path, dirs_exist_ok=True)
    recipe = recipe_for(tmp_path / "run", table=tmp_path / "t.csv")
    models = recipe.models.model_copy(update={"flow": str(tmp_path / "flow.pt2")})
    assert curate(recipe.model_copy(update={"models": models}))["computed_clips"] == 2
    rows = [
        decode_row(row, shard_metadata(path))
        for path in list_shards(layout_of(recipe), "8x48x64")
        for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) == 2
    for row in rows:
        assert row["flow"][0][row["flow_valid"]].abs().unique().tolist() == [1]  # a cell is four pixels
        assert not row["flow"][1].any()
        assert row["flow_valid"][:, :, 1:15].all()
        assert not row["flow_valid"][:, :, [0, 15]].all()  # what leaves the frame


def test_another_file_under_the_same_id_is_computed_anew(
    tmp_path: Path, two_videos: Path, recipe_for: Callable[..., Recipe], make_video: Any, make_scene: Any
) -> None:
    shutil.copytree(two_videos, tmp_path, dirs_exist_ok=True)
    recipe = recipe_for(tmp_path / "run", table=tmp_path / "t.csv")
    before = {key: row["latents_mean"] for key, row in shard_rows(recipe).items()}
    make_video(tmp_path / "c.mp4", make_scene(2, 20))
    rows = [source_row("a", contentUrl="c.mp4", part="train"), source_row("b", part="train")]
    write_rows(tmp_path / "t.csv", rows)
    summary = curate(recipe)
    assert (summary["decoded_sources"], summary["computed_clips"]) == (1, 1)
    after = {key: row["latents_mean"] for key, row in shard_rows(recipe).items()}
    assert before.keys() == after.keys()
    (clip,) = [row["clip_id"] for row in read_clips(layout_of(recipe)).to_pylist() if row["source_id"] == "a"]
    assert {key for key in before if after[key] != before[key]} == {key for key in before if key[1] == clip}
