"""The benchmark of the filters: films are what their label says, and results are counted right."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pipelines.benchmark import copies, cuts, labelled
from pipelines.benchmark.files import write_film
from pipelines.benchmark.filters import (
    Benchmark,
    FilterResult,
    Outcome,
    Trial,
    measure_filters,
    real_clips,
)
from pipelines.benchmark.studio import Studio
from pipelines.curation.verdicts import CurationError
from pipelines.recipe import DataSettings
from pipelines.recipe_file import load_recipe


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    webvid = load_recipe("stock", ("source=webvid",))
    return Benchmark(load_recipe("stock").curation, webvid.curation.filters, seed=3)


def test_films_go_through_pass_1_and_judge_and_are_told_apart(benchmark: Benchmark) -> None:
    results = measure_filters(benchmark, 1, ("shots", "static", "text", labelled.WEBVID, "duplicates"))
    rows = {result.filter: result for result in results}
    assert list(rows) == [
        "shots, adaptive",
        "shots, content",
        "static",
        "text",
        labelled.WEBVID,
        "duplicates",
    ]
    assert rows["shots, adaptive"].positives == 2
    assert rows["duplicates"].reported.keys() == {"colour graded", "cropped", "trimmed", "mirrored"}
    for result in results:
        assert (result.precision, result.recall, result.misses) == (1, 1, [])


def test_the_same_seed_makes_the_same_films() -> None:
    for kind in (*labelled.KINDS["watermark"][:2], cuts.KINDS[1]):
        one, again, other = (
            kind.make(Studio(0.2), Trial("text", kind.name, number, True).rng(5)) for number in (0, 0, 1)
        )
        assert np.array_equal(one.frames, again.frames)
        assert one.frames.shape != other.frames.shape or not np.array_equal(one.frames, other.frames)


def test_every_filter_has_kinds_on_both_sides() -> None:
    groups = [[kind.refuse for kind in kinds] for kinds in labelled.KINDS.values()]
    for labels in (*groups, [kind.refuse for kind in cuts.KINDS], [kind.same for kind in copies.KINDS]):
        assert {True, False} <= set(labels)


def test_real_clips_replace_the_generated_scenes() -> None:
    grey = np.full((20, 90, 160, 3), 77, np.uint8)
    shot = Studio(0.5, [grey]).shot(np.random.default_rng(0))
    assert len(shot) == 12
    assert (shot == 77).all()


def test_footage_is_read_behind_addresses_and_none_is_an_error(benchmark: Benchmark, tmp_path: Path) -> None:
    kind = labelled.KINDS["motion"][0]
    film = write_film(tmp_path / "film", kind.make(Studio(3.0), Trial("motion", kind.name, 0, True).rng(3)))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    table = tmp_path / "table.csv"
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        table.write_text(f"videoid,contentUrl,name\n1,{address}/gone.mp4,a\n2,{address}/{film.name},b\n")
        here = DataSettings(table=str(table), private_networks=("127.0.0.1",))
        (footage,) = real_clips(here, benchmark.curation)
        server.shutdown()
    assert len(footage) >= 16
    table.write_text("videoid,contentUrl,name\n1,gone.mp4,a\n")
    with pytest.raises(CurationError, match=r"no source of .* can be read and has a shot of"):
        real_clips(DataSettings(table=str(table)), benchmark.curation)


def test_what_is_not_counted_is_reported() -> None:
    result = FilterResult("text", "max_text_area 0.02")
    outcomes = [(True, 1, 1, 0), (True, 1, 0, 0), (False, 0, 0, 1), (False, 0, 0, 0), (None, 1, 1, 0)]
    for number, (refuse, *counts) in enumerate(outcomes):
        result.count(Outcome(Trial("text", "kind", number, refuse), "text", *counts))
    assert (result.positives, result.negatives, result.precision, result.recall) == (2, 2, 0.5, 0.5)
    assert result.reported == {"kind": (1, 1)}
    assert [miss.split(":")[1].strip() for miss in result.misses] == ["kind 1", "kind 2"]


def test_an_unknown_filter_names_those_that_there_are(benchmark: Benchmark) -> None:
    with pytest.raises(ValueError, match="no filter 'smell'; there are shots, motion"):
        measure_filters(benchmark, 1, ("smell",))
