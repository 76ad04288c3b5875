"""Recipes: what is wrong is said by name, and what is right reads back as it was."""

from pathlib import Path

import pytest
import yaml

from pipelines.recipe import Bucket, Recipe, RecipeError
from pipelines.recipe_file import RECIPES, find_recipe, load_recipe


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_that_ships_parses(name):
    assert load_recipe(name).name == name


def test_an_unknown_key_names_the_nearest_one():
    with pytest.raises(
        RecipeError, match=r"train\.global_batch_clip: unknown key; did you mean 'global_batch_clips'"
    ):
        load_recipe("demo", ("train.global_batch_clip=4",))


def test_an_unknown_key_inside_a_stage_names_its_place():
    with pytest.raises(RecipeError, match=r"train\.stages\.1\.step: unknown key; did you mean 'steps'"):
        load_recipe("demo", ("train.stages.1.step=4",))


def test_all_faults_are_said_at_once():
    with pytest.raises(RecipeError) as caught:
        load_recipe("demo", ("train.workers=none", "curation.fsp=8", "evaluate.sampling.guidance_rescale=2"))
    for place in ("train.workers", "curation.fsp", "evaluate.sampling.guidance_rescale"):
        assert place in str(caught.value)


def test_overrides_reach_nested_keys_list_entries_and_sections_that_are_not_there():
    recipe = load_recipe(
        "demo",
        (
            "train.stages.0.steps=7",
            "curation.filters.max_static=0.5",
            "curation.shots.threshold=null",
            "seed=3",
        ),
    )
    assert recipe.train is not None
    assert recipe.train.stages[0].steps == 7
    assert recipe.curation.filters.max_static == 0.5
    assert recipe.curation.shots.threshold is None
    assert recipe.seed == 3


def test_a_source_lays_its_columns_and_thresholds_over_a_recipe_and_overrides_lie_on_top():
    plain = load_recipe("stock")
    webvid = load_recipe("stock", ("curation.filters.max_text_area=0.05", "source=webvid"))
    filters = webvid.curation.filters
    assert filters.max_text_area == 0.05
    assert filters.max_watermark_area > plain.curation.filters.max_watermark_area
    assert filters.min_sharpness == plain.curation.filters.min_sharpness
    assert load_recipe("demo", ("source=pexels",)).data.columns.caption == "title"
    with pytest.raises(RecipeError, match="source=vimeo: no such source; there are pexels, webvid"):
        load_recipe("stock", ("source=vimeo",))


def test_a_file_has_the_last_word_over_the_source_that_it_names(tmp_path):
    own, stock = tmp_path / "own.yaml", find_recipe("stock").read_text()
    for source in ("webvid", "pexels"):
        own.write_text(f"source: {source}\n{stock}")
        assert load_recipe(str(own)).curation.filters == load_recipe("stock").curation.filters
    assert load_recipe(str(own)).data.columns.caption == "title"  # of which stock says nothing
    assert load_recipe(str(own), ("source=webvid",)).curation.filters.max_text_area == 0.08


def test_a_recipe_lies_over_the_one_that_it_extends(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: stock\nname: base\ntrain: {zero_stage: 1}\n")
    own = tmp_path / "own.yaml"
    stage = "{name: a, tier: low, steps: 1, learning_rate: 1}"
    own.write_text(f"extends: base.yaml\nsource: webvid\ntrain: {{stages: [{stage}]}}")
    stock, made = load_recipe("stock"), load_recipe(str(own))
    assert (made.name, made.train.zero_stage) == ("base", 1)
    assert [stage.name for stage in made.train.stages] == ["a"]  # a list is replaced as a whole
    assert made.train.global_batch_clips == stock.train.global_batch_clips
    assert made.curation.filters.max_text_area == 0.08  # the source's, which the file names
    (tmp_path / "base.yaml").write_text("extends: own.yaml\n")
    with pytest.raises(RecipeError, match="extends itself"):
        load_recipe(str(own))


def test_transnetv2_and_its_weights_go_together():
    for override in ("curation.shots.detector=transnetv2", "curation.shots.weights=net.pth"):
        with pytest.raises(RecipeError, match="go together"):
            load_recipe("stock", (override,))


def test_a_section_can_be_taken_out():
    assert load_recipe("demo", ("evaluate=null",)).evaluate is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "section.key=value"),
        ("=3", "section.key=value"),
        ("train.stages.9.steps=1", "none of the list's entries 0 to"),
        ("train.stages.first.steps=1", "none of the list's entries"),
        ("seed.deeper=1", "no section around 'deeper'"),
        ("data.table=[", "no YAML value"),
    ],
)
def test_an_override_that_fits_nowhere_is_refused(override, message):
    with pytest.raises(RecipeError, match=message.replace(".", r"\.")):
        load_recipe("demo", (override,))


def test_an_unknown_recipe_lists_those_that_ship():
    with pytest.raises(
        RecipeError, match="ablation, conditions, demo, limited_data, paper, quick, small_gpu, stock"
    ):
        find_recipe("nothing")


def test_a_batch_that_workers_cannot_divide_is_refused():
    with pytest.raises(RecipeError, match="global_batch_clips=10 cannot be divided among workers=4"):
        load_recipe("demo", ("train.workers=4", "train.global_batch_clips=10"))


def test_a_stage_of_an_unknown_tier_is_refused():
    with pytest.raises(
        RecipeError, match=r"train\.stages\.new_parts: tier 'huge' is none of curation\.tiers"
    ):
        load_recipe("demo", ("train.stages.0.tier=huge",))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stages.0.schedule={prediction: epsilon}", "no signal at terminal_snr=0"),
        ("train.stages.0.flow_weight=0.1", "go together"),
        ("model.predict_net=false", "model.predict_net is false"),
        ("evaluate.motion_labels=birds", "'birds' is none of data.columns.labels"),
        ("evaluate.sets.1.name=held_out", "names of sets must differ"),
        ("train.stages.0.name=../../elsewhere", "train.stages.0.name"),
        ("train.stages=[]", "train.stages"),
        ("curation.tiers.low=[]", "curation.tiers.low"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(override, said):
    with pytest.raises(RecipeError) as refused:
        load_recipe("demo", (override,))
    assert said in str(refused.value)


def test_a_star_stands_for_every_entry_of_a_list():
    recipe = load_recipe("demo", ("train.stages.*.schedule.shift=3",))
    assert [stage.schedule.shift for stage in recipe.train.stages] == [3, 3, 3, 3]
    with pytest.raises(RecipeError, match=r"unknown key"):
        load_recipe("demo", ("train.*.shift=3",))


def test_bf16_without_fp32_weights_is_refused():
    with pytest.raises(RecipeError, match="precision=bf16 needs zero_stage >= 1"):
        load_recipe("demo", ("train.precision=bf16", "train.zero_stage=0"))


def test_a_resolved_recipe_reads_back_as_itself(tmp_path: Path):
    recipe = load_recipe("stock", ("data.limit=5",))
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    again = load_recipe(str(file))
    assert again == recipe
    assert repr(again) == repr(recipe)  # 8 and 8.0 are equal, but not the bytes written of them


def test_buckets_are_written_as_people_write_them():
    assert Bucket(frames=16, height=320, width=512).model_dump() == "16x320x512"
    assert isinstance(load_recipe("demo"), Recipe)
    with pytest.raises(RecipeError, match="FRAMESxHEIGHTxWIDTH"):
        load_recipe("demo", ("curation.tiers.low=[64x64]",))


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path):
    file = tmp_path / "list.yaml"
    file.write_text("- 1\n")
    with pytest.raises(RecipeError, match="mapping of settings"):
        load_recipe(str(file))
    file.write_text("a: [\n")
    with pytest.raises(RecipeError, match="is not YAML"):
        load_recipe(str(file))
