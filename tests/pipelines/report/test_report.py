"""The page says what the clip table holds, needs nothing but itself, and trusts no caption."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipelines.curation.clip_table import read_clips
from pipelines.curation.manifest import manifest_entries
from pipelines.curation.run import curate
from pipelines.curation.verdicts import FAILED, FILTERED, KEPT, LIMITS, REASONS, CurationError, code_of
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.report.page import write_report
from pipelines.report.rendering import percent
from pipelines.report.scores import SCORES
from pipelines.workflow import run_recipe, write_recipe
from tests.pipelines.report.conftest import FILTERS

Rows = list[dict[str, Any]]


class Tables(HTMLParser):
    """Texts of the cells of every table row, by the id of the section that they stand in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.section = ""
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.section = dict(attributes).get("id") or self.section
        elif tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        elif tag in ("td", "th"):
            self.rows[self.section][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[self.section][-1][-1] += data


def page_of(recipe: Recipe) -> str:
    return Path(write_report(Path(recipe.run_directory))["report"]).read_text()


def rows_of(recipe: Recipe) -> Rows:
    return read_clips(RunLayout(Path(recipe.run_directory)), verdict=None).to_pylist()


def clips_of(recipe: Recipe) -> Rows:
    return [row for row in rows_of(recipe) if row["clip_id"] is not None]


def widths(page: str) -> list[int]:
    funnel = page[page.index('id="funnel"') : page.index('id="reasons"')]
    return [int(number.replace(",", "")) for number in re.findall(r"<b>([\d,]+)</b>", funnel)]


@pytest.fixture(scope="module")
def page(run: Recipe) -> str:
    return page_of(run)


@pytest.fixture(scope="module")
def kept_nothing(
    ray: None, recipe_for: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory
) -> Recipe:
    """A run directory that curation refused to go on with, because its filters let nothing pass."""
    recipe = recipe_for(tmp_path_factory.mktemp("nothing"), min_sharpness=1e9)
    write_recipe(recipe, RunLayout(Path(recipe.run_directory)))
    with pytest.raises(CurationError):
        curate(recipe)
    return recipe


@pytest.fixture(scope="module")
def tables(page: str) -> dict[str, list[list[str]]]:
    return Tables(page).rows


# ---------------------------------------------------------------- the numbers


def test_the_funnel_counts_sources_decoded_clips_kept_and_in_shards(run: Recipe, page: str):
    rows, clips = rows_of(run), clips_of(run)
    kept = [row for row in clips if row["verdict"] == KEPT]
    layout = RunLayout(Path(run.run_directory))
    in_shards = sum(entry["clips"] for entry in manifest_entries(layout))
    decoded = {row["source_id"] for row in rows if row["verdict"] != FAILED}
    assert widths(page) == [18, len(decoded), len(clips), len(kept), in_shards]
    assert len(decoded) == 15
    assert 0 < in_shards < len(kept) < len(clips)  # each step of this run loses something


def test_every_reason_stands_with_its_meaning_count_and_share(
    run: Recipe, tables: dict[str, list[list[str]]]
):
    rows = rows_of(run)
    reasons = Counter((row["verdict"], code_of(row["reason"])) for row in rows if row["verdict"] != KEPT)
    assert {code for verdict, code in reasons if verdict == FAILED} == {
        "empty_file",
        "not_a_video",
        "not_found",
    }
    assert {"duplicate", "too_bright"} <= {code for verdict, code in reasons if verdict == FILTERED}
    shown = {row[0].removesuffix(row[1]): row[1:] for row in tables["reasons"] if row[1] != "Meaning"}
    assert set(shown) == {code for _, code in reasons}
    for (verdict, code), count in reasons.items():
        of, noun = (18, "sources") if verdict == FAILED else (len(clips_of(run)), "clips")
        assert shown[code][:2] == [REASONS[code], str(count)]
        assert shown[code][2].split("\n")[0].strip() == f"{percent(count / of)} of {noun}"


def test_sources_are_in_the_books_by_verdict(page: str):
    assert re.search(r"From 18 sources:\s+\d+ kept, \d+ filtered, 3 failed, 0 quarantined", page)


def test_buckets_and_splits_hold_what_the_clip_table_says(
    run: Recipe, page: str, tables: dict[str, list[list[str]]]
):
    kept = [row for row in clips_of(run) if row["verdict"] == KEPT]
    trained = [row for row in kept if row["split"] == "train"]
    bucket = next(row for row in tables["buckets"] if row[0].startswith("8×32×32"))
    assert bucket[1].split()[0] == str(len(kept))
    assert bucket[2].split()[0] == str(len(trained))
    for split, count in Counter(row["split"] for row in clips_of(run)).items():
        there = sum(row["split"] == split for row in kept)
        assert f"<b>{split}</b> {there} of {count} kept" in page


def test_captions_stand_beside_what_they_were_split_into(run: Recipe, tables: dict[str, list[list[str]]]):
    kept = {row["caption"]: row for row in clips_of(run) if row["verdict"] == KEPT}
    shown = tables["captions"][1:]
    assert len(shown) >= min(8, len(kept))
    for caption, appearance, motion, split in shown:
        row = kept[caption]
        assert (appearance, motion) == (row["appearance_caption"] or "none", row["motion_caption"] or "none")
        assert split == row["split"]


def test_every_source_that_cannot_be_read_is_named_with_its_reason(
    run: Recipe, tables: dict[str, list[list[str]]]
):
    failed = [row for row in rows_of(run) if row["verdict"] == FAILED]
    shown = {tuple(row) for row in tables["failures"][1:]}
    assert shown == {(row["source_id"], row["source_uri"], FAILED, row["reason"]) for row in failed}


def test_time_and_memory_of_each_stage_of_curation_are_shown(tables: dict[str, list[list[str]]]):
    cost = {row[0]: row[1:] for row in tables["cost"][1:]}
    for stage in ("score", "query", "precompute"):
        seconds, memory = cost[f"curate: {stage}"]
        assert re.match(r"[\d.]+ s", seconds)
        assert re.match(r"\d\.\d\d GB", memory)
        assert float(memory.split()[0]) > 0.05
    assert "curate: decoder process" in cost
    assert "curate: driver process" in cost


# ---------------------------------------------------------------- thresholds


def test_every_threshold_is_drawn_with_the_clips_on_either_side(run: Recipe, page: str):
    drawn = re.findall(r'<text class="threshold-label"[^>]*>([^<]+)</text>', page)
    assert sorted(drawn) == sorted(["min 0.2", "max 0.5", "max 150"])
    assert page.count('<line class="threshold"') == 3
    text = re.sub(r"<[^>]+>", "", page)
    for limit in LIMITS:
        if (value := FILTERS.get(limit.setting)) is None:
            assert limit.setting + " " not in text.replace(f"{limit.setting}\n", "")
            continue
        scores = [row[limit.score] for row in clips_of(run) if row[limit.score] is not None]
        refused = sum(bool(limit.refuses(score, value)) for score in scores)
        passed = len(scores) - refused
        assert f"{limit.setting} {value:g}: {passed} pass, {refused} {limit.side} it" in text


def test_bars_of_the_page_add_up_to_the_clips_with_that_score(run: Recipe, page: str):
    cards = page[page.index('id="scores"') : page.index('id="clips"')].split("<article")[1:]
    for card, score in zip(cards, [score.column for score in SCORES], strict=True):
        scored = [row for row in clips_of(run) if row[score] is not None]
        titles = set(re.findall(r"<title>([^<]+)</title>", card))  # a bin's bars share one
        counts = [list(map(int, re.findall(r"(\d+) (?:kept|dropped)", title))) for title in titles]
        kept = sum(row["verdict"] == KEPT for row in scored)
        assert sum(map(sum, counts)) == len(scored)
        assert sum(count[0] for count in counts) == kept
    assert "Not computed for any" in cards[2]  # no text filter in this run, so no text score


# ---------------------------------------------------------------- pictures


def test_kept_clips_and_each_filters_clips_have_pictures(run: Recipe, page: str):
    clips = page[page.index('id="clips"') : page.index('id="captions"')]
    codes = {code_of(row["reason"]) for row in clips_of(run) if row["verdict"] == FILTERED}
    groups = dict(
        zip(re.findall(r'id="(?:dropped-)?(\w+)">', clips)[1:], clips.split("<h3")[1:], strict=True)
    )
    assert set(groups) == {"kept"} | codes
    for group in groups.values():
        assert "data:image/webp;base64," in group
        assert "No picture" not in group


def test_a_duplicate_stands_beside_the_clip_that_is_kept(run: Recipe, page: str):
    duplicate = next(row for row in clips_of(run) if row["duplicate_of"])
    original = next(row for row in clips_of(run) if row["clip_id"] == duplicate["duplicate_of"])
    group = page[page.index('id="dropped-duplicate"') :].split("<h3")[0]
    ids = re.findall(r'<span class="id">([^<]+)</span>', group)
    place = ids.index(duplicate["source_id"])
    assert ids[place + 1] == original["source_id"]
    assert "kept in its place" in group


def test_a_source_that_is_gone_has_a_named_placeholder(run: Recipe, tmp_path: Path):
    moved = tmp_path / "run"
    shutil.copytree(run.run_directory, moved, ignore=shutil.ignore_patterns("shards"))
    recipe = (moved / "recipe.yaml").read_text()
    (moved / "recipe.yaml").write_text(
        recipe.replace(run.data.table, str(tmp_path / "nowhere" / "table.csv"))
    )
    summary = write_report(moved)
    assert summary["pictures"] == 0
    assert summary["pictures_unreadable"] > 0
    page = (moved / "report.html").read_text()
    assert page.count("No picture: not_found: no file") >= summary["pictures_unreadable"]
    assert widths(page)[3] == summary["kept"] > 0


# ---------------------------------------------------------------- the file


def test_captions_and_names_are_text_and_never_markup(page: str):
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(" in page
    assert "<h1>" in page
    assert "<title>small &lt;run&gt;: " in page


def test_the_page_needs_no_file_and_no_network(page: str):
    links = re.findall(r'\b(?:src|href|srcset|action|poster|data)="([^"]*)"', page)
    assert links
    assert all(unescape(link).startswith(("data:", "#")) for link in links)
    assert not re.search(r"@import|url\(|<(?:link rel=.stylesheet|iframe|object|embed|base)", page)
    assert "default-src 'none'" in page
    assert len(page.encode()) < 5_000_000


def test_the_same_run_gives_the_same_page(run: Recipe, page: str):
    assert page_of(run) == page


def test_a_run_that_kept_nothing_says_so(kept_nothing: Recipe):
    page = page_of(kept_nothing)
    assert widths(page)[3:] == [0, 0]
    assert "No clip is kept" in page
    assert "nothing to encode" in page
    assert "No clip is in any bucket" in page
    assert "No curation of this run came to its end" in page
    assert 'id="dropped-blurred"' in page


def test_a_clip_table_of_other_settings_is_pointed_out(run: Recipe, page: str, tmp_path: Path):
    changed = tmp_path / "run"
    shutil.copytree(run.run_directory, changed, ignore=shutil.ignore_patterns("shards"))
    recipe = (changed / "recipe.yaml").read_text()
    (changed / "recipe.yaml").write_text(recipe.replace("max_static: 0.5", "max_static: 0.25"))
    write_report(changed)
    warning = "made with other settings than this run"
    assert warning in (changed / "report.html").read_text()
    assert warning not in page


def test_what_is_no_run_or_not_curated_is_refused_with_the_mend(
    tmp_path: Path, recipe_for: Callable[..., Recipe]
):
    with pytest.raises(FileNotFoundError, match=r"is no run directory: it has no recipe\.yaml"):
        write_report(tmp_path / "nowhere")
    write_recipe(recipe_for(tmp_path), RunLayout(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no clip table in .*: run `dreamer curate` first"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_every_score_with_a_threshold_is_drawn() -> None:
    assert {limit.score for limit in LIMITS} <= {score.column for score in SCORES}


@pytest.mark.usefixtures("ray")
def test_what_was_taken_down_is_not_shown(
    recipe_for: Callable[..., Recipe], run: Recipe, tmp_path: Path
) -> None:
    shutil.copytree(run.run_directory, tmp_path / "run")
    shown = sorted(clips_of(run), key=lambda row: str(row["clip_id"]))
    listed = [row["source_id"] for row in shown if row["verdict"] == KEPT][:2]
    (tmp_path / "out.txt").write_text("\n".join(listed))
    for folder in ("run", "fresh"):  # taken down after it was scored, and before
        recipe = recipe_for(tmp_path / folder)
        data = recipe.data.model_copy(update={"exclude_sources": str(tmp_path / "out.txt")})
        run_recipe(recipe.model_copy(update={"data": data}), ("curate",))
        page = page_of(recipe)
        assert REASONS["excluded"] in unescape(page)
        assert not any(f">{source}<" in page for source in listed)
