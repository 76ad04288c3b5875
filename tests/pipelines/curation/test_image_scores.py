"""Image scores: captions that fit their pictures, aesthetic heads, and what each change makes anew."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.curation.clip_table import read_clips, write_table
from pipelines.curation.decode import DecoderProcess
from pipelines.curation.image_scores import load_aesthetic_head
from pipelines.curation.query import judge_unit, query_fingerprint
from pipelines.curation.run import curate
from pipelines.curation.score import (
    SCORING_VERSION,
    score_unit,
    scoring_fingerprint,
    scoring_settings,
    unscored_sources,
)
from pipelines.curation.sources import divide_sources
from pipelines.curation.verdicts import CurationError
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.preflight.models import model_faults
from pipelines.recipe import DecodeSettings, Recipe
from pipelines.report.figures import collect_figures
from tests.curation_input import curation_recipe, write_rows

pytestmark = pytest.mark.usefixtures("ray")

CLIP, WIDTH = "embedded://clip", 64
FILMS = (1, 2, 5, 6, 9, 10)  # of SpriteWorld, whose shapes and colours the tiny CLIP tells apart
MATCH = 0.33  # cosine between those of right and of swapped captions of these
UNITS = 2
NOBODY: frozenset[str] = frozenset()
Rows = dict[str, dict[str, Any]]
Run = tuple[Recipe, dict[str, Any], Rows]
Score = Callable[[Recipe], int]


class Head(nn.Module):
    """LAION's improved aesthetic predictor, at the width of the embedded CLIP."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Linear(WIDTH, 32), nn.Dropout(0.2), nn.Linear(32, 16), nn.Dropout(0.1), nn.Linear(16, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("heads")
    for seed in range(2):
        torch.save(Head(seed).state_dict(), folder / f"{seed}.pth")
    return [str(folder / f"{seed}.pth") for seed in range(2)]


@pytest.fixture(scope="module")
def rows(sprites: Path) -> list[dict[str, str]]:
    """Six films with their own captions, `right-N`, and with one another's, `swapped-N`."""
    with (sprites / "sprites.csv").open(newline="") as stream:
        all_films = list(csv.DictReader(stream))
    films = [all_films[number] for number in FILMS]
    files = [str(sprites / film["contentUrl"]) for film in films]
    captions = [film["name"] for film in films]
    return [
        {"videoid": f"{kind}-{number}", "contentUrl": file, "name": captions[(number + shift) % len(films)]}
        for kind, shift in (("right", 0), ("swapped", 1))
        for number, file in enumerate(files)
    ]


@pytest.fixture(scope="module")
def recipe_for(
    tiny_models: dict[str, str],
    rows: list[dict[str, str]],
    sprites: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Recipe]:
    table = write_rows(tmp_path_factory.mktemp("table") / "films.csv", rows)

    def make(
        run_directory: Path,
        *,
        table: Path = table,
        filters: dict[str, float] | None = None,
        **image_scores: Any,
    ) -> Recipe:
        return curation_recipe(
            run_directory,
            table,
            tiny_models,
            data={"root": str(sprites)},
            units=UNITS,
            shots={"detector": "none"},
            image_scores=image_scores,
            filters=filters or {},
        )

    return make


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess() as decoder:
        yield decoder


@pytest.fixture(scope="module")
def score(decoder: DecoderProcess) -> Callable[[Recipe], int]:
    """Curation up to the verdicts, in this process; returns how many sources were decoded."""

    def run(recipe: Recipe) -> int:
        layout, stamp = RunLayout(Path(recipe.run_directory)), scoring_fingerprint(recipe.curation)
        path = recipe.curation.image_scores.aesthetic_head
        head = load_aesthetic_head(path) if path else None
        divide_sources(recipe.data, layout, UNITS)
        decoded = 0
        for unit in range(UNITS):
            if unscored_sources(unit, recipe, layout, NOBODY, stamp) is not None:
                decoded += score_unit(unit, recipe, layout, NOBODY, stamp, decoder, lambda _: None)["decoded"]
            judge_unit(unit, recipe, layout, stamp, query_fingerprint(recipe), head)
        return decoded

    return run


@pytest.fixture(scope="module")
def run(recipe_for: Callable[..., Recipe], heads: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A curated run with both scores: recipe, summary, clip table by source."""
    recipe = recipe_for(tmp_path_factory.mktemp("run"), clip=CLIP, aesthetic_head=heads[0])
    return recipe, curate(recipe), clips_of(recipe)


def clips_of(recipe: Recipe) -> Rows:
    layout = RunLayout(Path(recipe.run_directory))
    return {row["source_id"]: row for row in read_clips(layout, verdict=None).to_pylist()}


def score_rows(recipe: Recipe) -> Rows:
    files = score_files(recipe, scoring_fingerprint(recipe.curation))
    return {row["source_id"]: row for path in files for row in pq.read_table(path).to_pylist()}


def score_files(recipe: Recipe, stamp: str) -> list[Path]:
    return sorted(RunLayout(Path(recipe.run_directory)).scores.glob(f"*-{stamp[:8]}.parquet"))


# ---------------------------------------------------------------- text match


def test_a_caption_matches_its_own_film_better_than_another_does(run: Run) -> None:
    clips = run[2]
    assert len(clips) == 12
    for number in range(6):
        right, swapped = clips[f"right-{number}"], clips[f"swapped-{number}"]
        assert -1 <= swapped["text_match"] < MATCH < right["text_match"] <= 1
    assert run[1]["kept"] == 12  # without a threshold, a score filters nothing


def test_a_threshold_takes_out_captions_of_other_films_and_decodes_nothing(
    run: Run, recipe_for: Callable[..., Recipe], heads: list[str]
) -> None:
    images = {"clip": CLIP, "aesthetic_head": heads[0]}
    strict = recipe_for(Path(run[0].run_directory), filters={"min_text_match": MATCH}, **images)
    summary = curate(strict)
    assert (summary["decoded_sources"], summary["kept"]) == (0, 6)
    assert summary["reasons"] == {"caption_mismatch": 6}
    for name, row in clips_of(strict).items():
        if name.startswith("swapped"):
            assert row["reason"] == f"caption_mismatch: {row['text_match']:.3g} < {MATCH}"
        else:
            assert row["verdict"] == "kept"


def test_a_film_without_a_caption_has_no_match_and_is_dropped_for_want_of_words(
    tmp_path: Path, rows: list[dict[str, str]], recipe_for: Callable[..., Recipe], score: Score
) -> None:
    table = write_rows(tmp_path / "t.csv", [rows[0], rows[1] | {"name": ""}])
    recipe = recipe_for(tmp_path / "run", table=table, filters={"min_text_match": MATCH}, clip=CLIP)
    assert score(recipe) == 2
    wordless = clips_of(recipe)[rows[1]["videoid"]]
    assert (wordless["reason"], wordless["text_match"]) == ("no_caption", None)
    assert score_rows(recipe)[rows[1]["videoid"]]["image_embedding"] is not None


def test_another_caption_scores_its_source_anew_and_no_other(
    tmp_path: Path, rows: list[dict[str, str]], recipe_for: Callable[..., Recipe], score: Score
) -> None:
    table = write_rows(tmp_path / "t.csv", rows[:3])
    recipe = recipe_for(tmp_path / "run", table=table, clip=CLIP)
    assert score(recipe) == 3
    before = clips_of(recipe)
    write_rows(table, [rows[0], rows[1] | {"name": rows[4]["name"]}, rows[2]])
    assert score(recipe) == 1
    after = clips_of(recipe)
    changed = {name for name in before if before[name]["text_match"] != after[name]["text_match"]}
    assert changed == {rows[1]["videoid"]}
    assert after[rows[1]["videoid"]]["text_match"] < MATCH < before[rows[1]["videoid"]]["text_match"]
    assert score(recipe) == 0


def test_a_caption_that_no_picture_is_compared_with_decodes_nothing(
    tmp_path: Path, rows: list[dict[str, str]], recipe_for: Callable[..., Recipe], score: Score
) -> None:
    table = write_rows(tmp_path / "t.csv", rows[:2])
    recipe = recipe_for(tmp_path / "run", table=table)
    assert score(recipe) == 2
    write_rows(table, [rows[0], rows[1] | {"name": rows[4]["name"]}])
    assert score(recipe) == 0


# ---------------------------------------------------------------- aesthetic score


def test_the_score_is_what_the_heads_layers_give_one_after_the_other(run: Run) -> None:
    scores, clips, head = score_rows(run[0]), run[2], Head(0).eval()
    found = []
    for name, row in scores.items():
        embedding = torch.tensor(row["image_embedding"])
        assert embedding.norm() == pytest.approx(1, abs=1e-6)
        assert clips[name]["aesthetic_score"] == pytest.approx(head(embedding).item(), abs=1e-5)
        found.append(clips[name]["aesthetic_score"])
    assert max(found) - min(found) > 1e-3  # pictures differ, and so do their ratings


def test_another_head_rates_anew_and_decodes_nothing(
    run: Run, recipe_for: Callable[..., Recipe], heads: list[str]
) -> None:
    folder = Path(run[0].run_directory)
    scores, other = score_rows(run[0]), Head(1).eval()  # six films, each twice
    ratings = {name: other(torch.tensor(row["image_embedding"])).item() for name, row in scores.items()}
    low, high = sorted({round(value, 4) for value in ratings.values()})[2:4]
    least = (low + high) / 2
    recipe = recipe_for(folder, filters={"min_aesthetic": least}, clip=CLIP, aesthetic_head=heads[1])
    assert query_fingerprint(recipe) != query_fingerprint(run[0])
    summary = curate(recipe)
    assert (summary["decoded_sources"], summary["reasons"]) == (0, {"unaesthetic": 6})
    for name, row in clips_of(recipe).items():
        assert row["aesthetic_score"] == pytest.approx(ratings[name], abs=1e-5)
        assert (row["verdict"] == "kept") == (ratings[name] >= least)


def test_a_picture_is_scored_alike_whatever_is_scored_beside_it(run: Run) -> None:
    scores, clips = score_rows(run[0]), run[2]
    for number in range(6):
        one, other = f"right-{number}", f"swapped-{number}"
        assert scores[one]["image_embedding"] == scores[other]["image_embedding"]
        assert clips[one]["aesthetic_score"] == clips[other]["aesthetic_score"]


def test_a_head_is_read_from_either_format_and_a_single_layer_too(tmp_path: Path, heads: list[str]) -> None:
    head = Head(0)
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    assert load_aesthetic_head(str(tmp_path / "head.safetensors")).bias == load_aesthetic_head(heads[0]).bias
    linear = nn.Linear(WIDTH, 1)
    torch.save(linear.state_dict(), tmp_path / "linear.pth")
    assert torch.allclose(
        torch.from_numpy(load_aesthetic_head(str(tmp_path / "linear.pth")).weight).float(), linear.weight[0]
    )


def test_layers_count_by_their_number_and_not_by_their_place_in_the_file(tmp_path: Path) -> None:
    layers = {f"layers.{number}": nn.Linear(4, 4 if number < 10 else 1) for number in (10, 8, 9)}
    state = {
        f"{name}.{key}": value for name, each in layers.items() for key, value in each.state_dict().items()
    }
    torch.save(state, tmp_path / "head.pth")
    head, x = load_aesthetic_head(str(tmp_path / "head.pth")), torch.rand(4)
    expected = layers["layers.10"](layers["layers.9"](layers["layers.8"](x))).item()
    assert x.double().numpy() @ head.weight + head.bias == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"layers.0.weight": (8, WIDTH), "layers.0.bias": (8,)}, "end in one number"),
        ({"layers.0.weight": (1, WIDTH)}, "with a bias each"),
        ({"layers.0.weight": (1, WIDTH), "layers.0.bias": (1,), "logit_scale": (1,)}, "'logit_scale' is no"),
        ({}, "but nothing"),
        (
            {
                "layers.0.weight": (8, WIDTH),
                "layers.0.bias": (8,),
                "layers.3.weight": (1, 8),
                "layers.3.bias": (1,),
            },
            "between layers 0 and 3 there is room for an activation",
        ),
        (
            {
                "layers.0.weight": (8, WIDTH),
                "layers.0.bias": (8,),
                "layers.2.weight": (1, 9),
                "layers.2.bias": (1,),
            },
            "lead from one to the next",
        ),
    ],
)
def test_a_file_of_anything_else_is_refused_by_name(
    tmp_path: Path, state: dict[str, tuple[int, ...]], said: str
) -> None:
    torch.save({name: torch.zeros(shape) for name, shape in state.items()}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth.*{said}"):
        load_aesthetic_head(str(tmp_path / "other.pth"))


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    torch.save(Head(0), tmp_path / "module.pth")  # pickles the class, not its tensors alone
    with pytest.raises(ValueError, match=r"module\.pth holds no weights that can be read"):
        load_aesthetic_head(str(tmp_path / "module.pth"))
    with pytest.raises(FileNotFoundError, match=r"curation\.image_scores\.aesthetic_head"):
        load_aesthetic_head(str(tmp_path / "none.pth"))


# ---------------------------------------------------------------- runs without weights, and from before


def test_without_weights_the_scores_are_null_and_those_of_before_hold(
    tmp_path: Path, rows: list[dict[str, str]], recipe_for: Callable[..., Recipe], score: Score
) -> None:
    recipe = recipe_for(tmp_path / "run", table=write_rows(tmp_path / "t.csv", rows[:2]))
    assert score(recipe) == 2
    assert [(row["aesthetic_score"], row["text_match"]) for row in clips_of(recipe).values()] == [
        (None, None)
    ] * 2
    # As a run of an earlier version left them.
    layout, later = RunLayout(tmp_path / "run"), ["text_match", "image_embedding", "caption"]
    for path in score_files(recipe, scoring_fingerprint(recipe.curation)):
        write_table(path, pq.read_table(path).drop_columns(later))
    for path in layout.clips.glob("*.parquet"):
        write_table(path, pq.read_table(path).drop_columns(["aesthetic_score", "text_match"]))
    figures = collect_figures(layout, recipe)
    assert not figures.outdated
    assert {each.score.column: each.missing for each in figures.histograms}["text_match"] == 2
    assert score(recipe) == 0
    assert len(clips_of(recipe)) == 2


def test_without_weights_scores_of_before_are_current(
    tmp_path: Path, heads: list[str], recipe_for: Callable[..., Recipe]
) -> None:
    plain, clip, rated = (
        recipe_for(tmp_path, **settings)
        for settings in ({}, {"clip": CLIP}, {"clip": CLIP, "aesthetic_head": heads[0]})
    )
    settings = scoring_settings(plain.curation).model_dump(exclude={"clip"})
    assert scoring_fingerprint(plain.curation) == fingerprint("scores", SCORING_VERSION, settings)
    scores = [scoring_fingerprint(recipe.curation) for recipe in (plain, clip, rated)]
    assert scores[0] != scores[1] == scores[2]
    assert len({query_fingerprint(recipe) for recipe in (plain, clip, rated)}) == 3


def test_fingerprints_depend_on_the_heads_content_and_not_on_where_it_lies(
    tmp_path: Path, heads: list[str], recipe_for: Callable[..., Recipe]
) -> None:
    moved = tmp_path / "moved.pth"
    moved.write_bytes(Path(heads[0]).read_bytes())
    stamps = [
        query_fingerprint(recipe_for(tmp_path, clip=CLIP, aesthetic_head=str(head)))
        for head in (heads[0], moved, heads[1])
    ]
    assert stamps[0] == stamps[1] != stamps[2]


# ---------------------------------------------------------------- wrong settings


@pytest.mark.parametrize(
    ("filters", "images", "said"),
    [
        (
            {"min_aesthetic": 4.5},
            {"clip": CLIP},
            r"set image_scores\.aesthetic_head, or filters\.min_aesthetic",
        ),
        ({"min_text_match": 0.2}, {}, r"set image_scores\.clip, or filters\.min_text_match=null"),
        ({}, {"aesthetic_head": "head.pth"}, r"set clip=FOLDER too"),
        ({"min_text_match": 20}, {"clip": CLIP}, r"less than or equal to 1"),
    ],
)
def test_a_filter_without_its_score_is_refused(
    tmp_path: Path, recipe_for: Callable[..., Recipe], filters: Any, images: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        recipe_for(tmp_path, filters=filters, **images)


def test_preflight_says_what_is_wrong_with_the_weights(
    tmp_path: Path, tiny_models: dict[str, str], heads: list[str], recipe_for: Callable[..., Recipe]
) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    def said(clip: str, head: str | None = None, **decode: float) -> list[str]:
        recipe = recipe_for(tmp_path, clip=clip, aesthetic_head=head)
        settings = recipe.curation.model_copy(update={"decode": DecodeSettings(**decode)})
        faults = model_faults(recipe.model_copy(update={"curation": settings}), ("curate",))
        return [f for f in faults if f.startswith(("curation.image_scores", "curation.decode"))]

    assert said(CLIP, heads[0]) == []
    assert "no model folder" in said(str(tmp_path / "gone"))[0]
    (tokenizer_fault,) = said(tiny_models["image_encoder"])
    assert "no tokenizer" in tokenizer_fault
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=32, patch_size=8)
    CLIPVisionModelWithProjection(vision).save_pretrained(tmp_path / "vision")
    assert any("is no CLIP model" in fault for fault in said(str(tmp_path / "vision")))
    torch.save(nn.Linear(768, 1).state_dict(), tmp_path / "laion.pth")
    (width_fault,) = said(CLIP, str(tmp_path / "laion.pth"))
    assert "rates 768 numbers, the CLIP of curation.image_scores.clip gives 64" in width_fault
    (head_fault,) = said(CLIP, str(tmp_path / "none.pth"))
    assert "no aesthetic head" in head_fault
    (memory_fault,) = said(CLIP, max_memory_gb=0.5)
    assert "set curation.decode.max_memory_gb=" in memory_fault


def test_a_head_of_another_width_stops_the_query(
    run: Run, tmp_path: Path, recipe_for: Callable[..., Recipe], score: Score
) -> None:
    torch.save(nn.Linear(768, 1).state_dict(), tmp_path / "laion.pth")
    head = str(tmp_path / "laion.pth")
    with pytest.raises(CurationError, match="rates 768 numbers"):
        score(recipe_for(Path(run[0].run_directory), clip=CLIP, aesthetic_head=head))


def test_a_clip_that_the_decoder_cannot_hold_stops_the_run_and_blames_no_video(
    tmp_path: Path, rows: list[dict[str, str]], recipe_for: Callable[..., Recipe]
) -> None:
    recipe = recipe_for(tmp_path / "run", table=write_rows(tmp_path / "t.csv", rows[:2]), clip=CLIP)
    small = recipe.curation.model_copy(update={"decode": DecodeSettings(max_memory_gb=0.2)})
    with pytest.raises(CurationError, match=r"decoder_memory.*raise curation\.decode"):
        curate(recipe.model_copy(update={"curation": small}))
    assert not score_files(recipe, scoring_fingerprint(recipe.curation))
