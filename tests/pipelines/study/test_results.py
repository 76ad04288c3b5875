"""What votes come to: standings, agreement, tables, MLflow."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipelines.study.order import showings
from pipelines.study.plan import Study, StudyError, open_study, votes_file
from pipelines.study.questions import Answer, Question
from pipelines.study.results import write_results
from pipelines.study.votes import Vote, VoteStore
from tests.pipelines.study import world

PAIRS, PREFERRED = 4, "grainy"


@pytest.fixture(scope="module")
def opened(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    folder, study = open_study(runs, tmp_path_factory.mktemp("counted"), {"pairs": PAIRS})
    store = VoteStore(votes_file(folder))
    store.ensure_raters(3)
    vote_for(store, study, rater=1, ties=1)
    vote_for(store, study, rater=2, ties=0)
    return folder, study


@pytest.fixture(scope="module")
def summary(opened: tuple[Path, Study]) -> dict[str, Any]:
    return write_results(*opened)


def vote_for(store: VoteStore, study: Study, rater: int, ties: int) -> None:
    """Prefer one run on visual quality, wherever it stands, but in the first pairs of the study."""
    for showing in showings(study, rater):
        left, right = (study.contestants[index].name for index in (showing.left, showing.right))
        answer = Answer.LEFT if left == PREFERRED else Answer.RIGHT
        answer = Answer.SAME if showing.pair < ties else answer
        store.add(Vote(rater, showing.pair, Question.VISUAL_QUALITY, left, right, answer))


def test_a_run_gets_its_votes_wherever_it_stood(summary: dict[str, Any]):
    told = summary["questions"]["visual_quality"]
    preferred, other = told["standings"]["grainy"], told["standings"]["steady"]
    assert (preferred["wins"], preferred["ties"], preferred["losses"]) == (7, 1, 0)
    assert (other["wins"], other["ties"], other["losses"]) == (0, 1, 7)
    assert preferred["win_rate"]["value"] == pytest.approx(7.5 / 8)
    difference = preferred["strength"]["value"] - other["strength"]["value"]
    assert difference == pytest.approx(math.log(8 / 1))  # half a win more for each
    low, high = preferred["win_rate"]["interval"]
    assert 0.5 < low < 7.5 / 8 <= high <= 1


def test_agreement_stands_beside_the_standings(summary: dict[str, Any]):
    told = summary["questions"]["visual_quality"]
    assert told["agreement"] == pytest.approx(3 / 4)
    assert told["alpha"] == pytest.approx(1 - 7 * 2 / (64 - 49 - 1))  # one of four pairs differs


def test_questions_without_a_vote_have_no_standing(summary: dict[str, Any]):
    empty = {"votes": 0, "agreement": None, "alpha": None, "standings": {}}
    assert summary["questions"]["motion_quality"] == empty
    assert summary["raters"] == {"invited": 3, "voted": 2, "finished": 0}
    assert summary["votes"] == 8


def test_tables_hold_every_vote_and_no_token(summary: dict[str, Any], opened: tuple[Path, Study]):
    folder, _ = opened
    votes = list(csv.DictReader((folder / "votes.csv").open()))
    assert len(votes) == 8
    assert [row["better"] for row in votes].count(PREFERRED) == 7
    for row in votes:
        assert row["better"] in ("", row["left"], row["right"])
        assert row["caption"] in world.CAPTIONS
    text = (folder / "votes.csv").read_text() + (folder / "results.csv").read_text()
    assert not any(token in text for token in VoteStore(votes_file(folder)).ensure_raters(0))
    results = {row["run"]: row for row in csv.DictReader((folder / "results.csv").open())}
    assert float(results["grainy"]["win_rate"]) == pytest.approx(7.5 / 8)
    assert float(results["grainy"]["strength_low"]) < float(results["grainy"]["strength"])


def test_mlflow_has_the_numbers_and_the_tables(summary: dict[str, Any], runs: tuple[Path, Path]):
    client = MlflowClient(tracking_uri=summary["tracking"]["uri"])
    run = client.get_run(summary["tracking"]["run_id"])
    assert (runs[0] / "mlflow.db").is_file()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["study/visual_quality/grainy/win_rate"] == pytest.approx(7.5 / 8)
    assert run.data.metrics["study/visual_quality/agreement"] == pytest.approx(3 / 4)
    assert "Bradley–Terry" in run.data.params["protocol"]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "study.json",
        "results.csv",
        "votes.csv",
    }


def test_a_store_that_takes_nothing_costs_no_result(
    opened: tuple[Path, Study], capsys: pytest.CaptureFixture[str]
):
    folder, study = opened
    gone = study.settings.model_copy(update={"runs": ("/nowhere/a", "/nowhere/b")})
    summary = write_results(folder, study.model_copy(update={"settings": gone}))
    assert summary["questions"]["visual_quality"]["votes"] == 8
    assert "no recipe" in summary["tracking"]["error"]
    assert "the results are whole" in capsys.readouterr().err


def test_without_a_vote_there_is_no_result(runs: tuple[Path, Path], tmp_path: Path):
    folder, study = open_study(runs, tmp_path, {})
    with pytest.raises(StudyError, match="nobody has voted"):
        write_results(folder, study)
    assert not votes_file(folder).exists()
