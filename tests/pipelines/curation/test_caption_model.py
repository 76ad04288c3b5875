"""Captions split by a language model: what of its answers is taken, and what is left to the rules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.curation.caption_model import TASK, CaptionModel, Refusal, as_json, checked, parse
from pipelines.curation.caption_splits import (
    count_refused,
    missing_captions,
    split_unit,
    splitter_of,
    splitting_fingerprint,
)
from pipelines.curation.captions import CaptionSplit, split_caption
from pipelines.curation.clip_table import clips_path, read_clips, write_table
from pipelines.curation.query import query_fingerprint
from pipelines.curation.run import curate
from pipelines.layout import RunLayout
from pipelines.preflight.models import model_faults
from pipelines.recipe import CaptionSettings, Recipe
from tests.curation_input import EMBEDDED_MODELS, curation_recipe, source_row, write_rows
from tests.language_models import causal, memorised, saved, tokenizer_of

# What the trained model has learned to answer, right or wrong.
LEARNED = {
    "Old man feeds pigeons in the park": CaptionSplit("Old man in the park, pigeons", "man feeds pigeons"),
    "Red car on a bridge": CaptionSplit("Red car on a bridge", ""),
    "Snow falls on a village": CaptionSplit("Village", "snow falls slowly"),
    "Green parrot sings in a cage": CaptionSplit("Green parrot", "parrot sings"),
}


DROPPED = "Text on a black screen"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    class Plain:
        chat_template = None

    return tokenizer_of(
        [TASK.prompt(text, Plain()) + " " + as_json(split) for text, split in LEARNED.items()]
    )


@pytest.fixture(scope="module")
def untrained(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(causal(tokenizer), tokenizer, tmp_path_factory.mktemp("untrained"))


@pytest.fixture(scope="module")
def trained(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that knows the answers of LEARNED by heart."""
    answers = {TASK.prompt(text, tokenizer): as_json(split) for text, split in LEARNED.items()}
    return memorised(answers, tokenizer, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    """A run directory whose one unit has the captions of LEARNED, one of them twice, and a clip not kept."""
    layout = RunLayout(tmp_path / "run")
    give_clips(layout, [*LEARNED, "Red car on a bridge"])
    return layout


def give_clips(layout: RunLayout, captions: list[str]) -> None:
    rows = [{"caption": caption, "verdict": "kept"} for caption in captions]
    rows += [{"caption": DROPPED, "verdict": "filtered"}, {"caption": "", "verdict": "filtered"}]
    write_table(clips_path(layout, 0), pa.Table.from_pylist(rows))


@pytest.fixture
def recipe_with(layout: RunLayout) -> Callable[..., Recipe]:
    def make(model: str | None, **settings: Any) -> Recipe:
        splitter = {"splitter": "rules" if model is None else "model", "model": model, **settings}
        models = dict.fromkeys(EMBEDDED_MODELS, "none")
        return curation_recipe(layout.root, Path("videos.csv"), models, captions=splitter)

    return make


def stamp_of(recipe: Recipe) -> str:
    return splitting_fingerprint(recipe.curation.captions)


def language_model(recipe: Recipe) -> CaptionModel:
    settings = recipe.curation.captions
    assert settings.model is not None
    return CaptionModel(
        settings.model, batch_captions=settings.batch_captions, max_new_tokens=settings.max_new_tokens
    )


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "unreadable"),
        ("Sure! Here it is: {}", "unreadable"),
        ('{"appearance": "A dog in a park"}', "unreadable"),
        ('{"appearance": "A dog in a park", "motion": null}', "unreadable"),
        ('{"appearance": "", "motion": "A dog runs in a park"}', "unreadable"),
        ('{"appearance": "A dog in a park", "motion": "runs", "camera": ""}', "unreadable"),
        ('["A dog in a park", "runs"]', "unreadable"),
        ('{"appearance": "A dog in a park", "motion": ""}', "lost_word"),
        ('{"appearance": "A dog", "motion": "dog runs"}', "lost_word"),
        ('{"appearance": "A dog in a park", "motion": "dog runs and barks"}', "invented_word"),
        ('{"appearance": "A brown dog in a park", "motion": "dog runs"}', "invented_word"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_refused(answer: str, reason: str) -> None:
    assert checked("A dog runs in a park", answer) == Refusal(reason)


def test_an_answer_may_reorder_words_and_go_on_after_its_object() -> None:
    answer = ' {"appearance": "In a park,  a dog", "motion": "The dog runs"}\n\nCaption: another'
    assert checked("A dog runs in a park", answer) == CaptionSplit("In a park, a dog", "The dog runs")


def test_what_the_prompt_shows_is_what_is_read() -> None:
    split = CaptionSplit('A "quoted" café', "waiter runs")
    assert parse(as_json(split)) == split


def test_a_chat_model_is_asked_in_its_own_template(tokenizer: Any) -> None:
    class Chat:
        chat_template = "{{ messages }}"

        @staticmethod
        def apply_chat_template(turns: list[dict[str, str]], **_: Any) -> str:
            return "|".join(f"{turn['role']}:{turn['content']}" for turn in turns)

    asked = TASK.prompt("A dog\nruns", Chat())
    assert asked.endswith("|user:Caption: A dog runs")
    assert asked.count("|assistant:{") == asked.count("Caption: ") - 1


# ---------------------------------------------------------------- models


def test_a_trained_model_splits_and_its_faults_go_to_the_rules(
    trained: str, layout: RunLayout, recipe_with: Callable[..., Recipe]
) -> None:
    recipe = recipe_with(trained, batch_captions=3, max_new_tokens=60)
    split_unit(0, layout, stamp_of(recipe), language_model(recipe))
    split = splitter_of(0, recipe, layout, stamp_of(recipe))
    taken, invented, lost = list(LEARNED)[:2], *list(LEARNED)[2:]
    assert [split(caption) for caption in taken] == [LEARNED[caption] for caption in taken]
    assert [split(invented), split(lost)] == [split_caption(invented), split_caption(lost)]
    assert split("") == CaptionSplit("", "")
    assert split(DROPPED) is None
    assert count_refused(0, layout, stamp_of(recipe)) == {None: 2, "invented_word": 1, "lost_word": 1}


def test_a_model_that_talks_nonsense_leaves_all_to_the_rules(
    untrained: str, layout: RunLayout, recipe_with: Callable[..., Recipe]
) -> None:
    recipe = recipe_with(untrained, max_new_tokens=8)
    split_unit(0, layout, stamp_of(recipe), language_model(recipe))
    split = splitter_of(0, recipe, layout, stamp_of(recipe))
    assert all(split(caption) == split_caption(caption) for caption in LEARNED)
    assert count_refused(0, layout, stamp_of(recipe)) == {"unreadable": 4}


def test_a_sequence_to_sequence_model_is_asked_too(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    path = saved(T5ForConditionalGeneration(config), tokenizer, tmp_path / "t5")
    model = CaptionModel(path, batch_captions=2, max_new_tokens=4)
    answers = model.split(["A dog runs", "A cat sleeps", "word " * 200])
    assert answers == [Refusal("unreadable"), Refusal("unreadable"), Refusal("too_long")]


def test_the_model_is_asked_for_added_captions_only(
    untrained: str, layout: RunLayout, recipe_with: Callable[..., Recipe]
) -> None:
    recipe = recipe_with(untrained)

    class Recorder:
        asked: list[list[str]] = []  # noqa: RUF012

        def split(self, captions: list[str]) -> list[CaptionSplit]:
            self.asked.append(captions)
            return [CaptionSplit(caption, "") for caption in captions]

    model = Recorder()
    stamp = stamp_of(recipe)
    split_unit(0, layout, stamp, model)
    give_clips(layout, [*LEARNED, "Wind blows"])
    assert missing_captions(0, layout, stamp) == ["Wind blows"]
    split_unit(0, layout, stamp, model)
    assert model.asked == [sorted(LEARNED), ["Wind blows"]]
    assert count_refused(0, layout, stamp) == {None: 5}


@pytest.mark.usefixtures("ray")
def test_another_splitter_decodes_no_video_again(
    trained: str,
    tmp_path: Path,
    tiny_models: dict[str, str],
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
) -> None:
    rows = [source_row(f"v{number}", caption) for number, caption in enumerate(LEARNED)]
    for number, row in enumerate(rows):
        make_video(tmp_path / row["contentUrl"], make_scene(number, 20))
    make_video(tmp_path / "dark.mp4", make_scene(0, 20) // 64)
    table = write_rows(tmp_path / "table.csv", [*rows, source_row("dark", DROPPED)])
    captions: dict[str, Any] = {"batch_captions": 3, "max_new_tokens": 60}

    def run() -> tuple[dict[str, Any], dict[str, CaptionSplit]]:
        recipe = curation_recipe(
            tmp_path / "run",
            table,
            tiny_models,
            units=1,
            captions=captions,
            filters={"min_luminance": 20},
        )
        summary = curate(recipe)
        clips = read_clips(RunLayout(tmp_path / "run"), verdict=None).to_pylist()
        splits = {c["caption"]: CaptionSplit(c["appearance_caption"], c["motion_caption"]) for c in clips}
        return summary, splits

    by_rules, splits = run()
    assert splits == {caption: split_caption(caption) for caption in (*LEARNED, DROPPED)}
    assert (by_rules["decoded_sources"], by_rules["computed_clips"]) == (5, 4)
    assert "captions_asked" not in by_rules
    captions |= {"splitter": "model", "model": trained}
    by_model, splits = run()
    taken = list(LEARNED)[:2]
    assert [splits[caption] for caption in taken] == [LEARNED[caption] for caption in taken]
    dropped = splits[DROPPED]  # it was not kept, and the model was not asked
    assert [dropped.appearance, dropped.motion] == [None, None]
    assert by_model["decoded_sources"] == by_model["computed_clips"] == 0
    assert by_model["captions_asked"] == len(LEARNED)
    assert by_model["captions_refused"] == {"invented_word": 1, "lost_word": 1}


# ---------------------------------------------------------------- recipe, fingerprint, preflight


def test_splitter_and_weights_are_in_the_fingerprint_of_the_query(
    untrained: str, trained: str, recipe_with: Callable[..., Recipe]
) -> None:
    recipes = [recipe_with(None), recipe_with(untrained), recipe_with(trained)]
    assert len({query_fingerprint(recipe) for recipe in recipes}) == 3
    assert splitting_fingerprint(CaptionSettings()) == splitting_fingerprint(recipes[0].curation.captions)


def test_splitter_and_model_go_together() -> None:
    for settings in ({"splitter": "model"}, {"model": "folder"}):
        with pytest.raises(ValueError, match="go together"):
            CaptionSettings.model_validate(settings)


def test_preflight_says_what_is_wrong_with_the_model(
    untrained: str, tmp_path: Path, recipe_with: Callable[..., Recipe]
) -> None:
    from transformers import T5Config, T5EncoderModel

    def said(path: str) -> list[str]:
        faults = model_faults(recipe_with(path), ("curate",))
        return [fault for fault in faults if fault.startswith("curation.captions.model")]

    encoder = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5EncoderModel(encoder).save_pretrained(tmp_path / "encoder")
    assert said(untrained) == []
    assert "no model folder" in said(str(tmp_path / "gone"))[0]
    tokenizer_fault, kind_fault = said(str(tmp_path / "encoder"))
    assert "no tokenizer" in tokenizer_fault
    assert "T5EncoderModel, which writes no text" in kind_fault
