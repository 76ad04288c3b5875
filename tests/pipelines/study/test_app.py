"""The study over HTTP: what a rater may do, and what nobody gets to see."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from pipelines.study.order import showings
from pipelines.study.plan import Study
from pipelines.study.questions import Question
from pipelines.study.votes import VoteStore
from tests.pipelines.study import world


@dataclass
class Rater:
    """A rater's link, as a client of the server sees it."""

    address: str

    def get(self, path: str = "", **more: Any) -> requests.Response:
        return requests.get(self.address + path, timeout=10, **more)

    def vote(self, number: object, question: object, answer: object, **more: object) -> requests.Response:
        sent = {"number": number, "question": question, "answer": answer, **more}
        return requests.post(f"{self.address}/votes", json=sent, timeout=10)

    def undo(self) -> requests.Response:
        return requests.delete(f"{self.address}/votes", timeout=10)

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.get("/state").json())


@pytest.fixture
def study(runs: tuple[Path, Path]) -> Study:
    return world.study_of(*runs, pairs=3)


@pytest.fixture
def store(tmp_path: Path) -> VoteStore:
    return VoteStore(tmp_path / "study.sqlite")


@pytest.fixture
def rater(study: Study, store: VoteStore) -> Iterator[Rater]:
    (token,) = store.ensure_raters(1)
    with world.served(study, store) as base:
        yield Rater(f"{base}/{token}")


def test_a_rater_walks_through_all_pairs_and_all_four_questions(rater: Rater, store: VoteStore, study: Study):
    asked = []
    while (state := rater.state)["number"] is not None:
        question = next(name for name in Question if name not in state["answers"])
        asked.append((state["number"], question))
        assert rater.vote(state["number"], question, "left").status_code == 201
    assert asked == [(number, question) for number in range(3) for question in Question]
    assert (state["votes"], state["of"], state["caption"]) == (12, 12, None)
    first = showings(study, 1)[0]
    vote = store.votes()[0]
    assert (vote.pair, vote.left) == (first.pair, study.contestants[first.left].name)


def test_a_vote_answers_with_what_comes_next(rater: Rater):
    state = rater.vote(0, "motion_quality", "same").json()
    assert state == rater.state
    assert state["answers"] == {"motion_quality": "same"}
    assert state["votes"] == 1


def test_a_second_vote_on_the_same_question_is_refused(rater: Rater, store: VoteStore):
    assert rater.vote(0, "visual_quality", "left").status_code == 201
    assert rater.vote(0, "visual_quality", "right").status_code == 409
    assert [vote.answer for vote in store.votes()] == ["left"]


def test_undo_opens_the_last_question_again(rater: Rater):
    for question in Question:
        rater.vote(0, question, "left")
    assert rater.state["number"] == 1
    state = rater.undo().json()
    assert (state["number"], state["votes"]) == (0, 3)
    assert rater.vote(0, Question.TEMPORAL_CONSISTENCY, "right").status_code == 201
    for _ in range(4):
        rater.undo()
    assert rater.undo().status_code == 409


@pytest.mark.parametrize(
    "sent",
    [
        {"number": 0, "question": "beauty", "answer": "left"},
        {"number": 0, "question": "visual_quality", "answer": "both"},
        {"number": "0", "question": "visual_quality", "answer": "left"},
        {"number": -1, "question": "visual_quality", "answer": "left"},
        {"number": 0.5, "question": "visual_quality", "answer": "left"},
        {"question": "visual_quality", "answer": "left"},
        {"number": 0, "question": "visual_quality", "answer": "left", "rater": 2},
        ["left"],
    ],
)
def test_what_is_no_vote_is_refused_and_not_counted(rater: Rater, store: VoteStore, sent: object):
    answer = requests.post(f"{rater.address}/votes", json=sent, timeout=10)
    assert answer.status_code == 422
    assert store.votes() == []


def test_what_is_too_large_for_a_vote_is_not_read(rater: Rater, store: VoteStore):
    vote = b'{"number": 0, "question": "visual_quality", "answer": "left"}'
    for body in (vote.ljust(2000), iter([vote])):  # the second comes in chunks, of no stated size
        assert requests.post(f"{rater.address}/votes", data=body, timeout=10).status_code == 413
    assert not store.votes()


def test_a_pair_that_is_not_the_raters_is_refused(rater: Rater, store: VoteStore):
    assert rater.vote(3, "visual_quality", "left").status_code == 404
    assert rater.get("/3/left.mp4").status_code == 404
    assert store.votes() == []


def test_without_a_known_token_there_is_nothing(rater: Rater, store: VoteStore):
    base = rater.address.rpartition("/")[0]
    stranger = Rater(f"{base}/AAAAAAAAAAAAAAAAAAAAAA")
    for path in ("", "/state", "/0/left.mp4"):
        assert stranger.get(path).status_code == 404
    assert stranger.vote(0, "visual_quality", "left").status_code == 404
    assert stranger.undo().status_code == 404
    for path in ("/", "/docs", "/openapi.json", "/assets/", "/assets/../app.py", "/assets/%2e%2e/app.py"):
        assert requests.get(base + path, timeout=10).status_code == 404
    assert store.votes() == []


def test_videos_are_whole_or_in_ranges_as_phones_ask(rater: Rater, study: Study):
    showing = showings(study, 1)[0]
    clip = study.pairs[showing.pair].clip
    for side, contestant in (("left", showing.left), ("right", showing.right)):
        data = study.video(clip, contestant).read_bytes()
        whole = rater.get(f"/0/{side}.mp4")
        assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
        assert whole.content == data
        part = rater.get(f"/0/{side}.mp4", headers={"Range": "bytes=0-1"})
        assert (part.status_code, part.content) == (206, data[:2])
        assert part.headers["content-range"] == f"bytes 0-1/{len(data)}"


def test_only_videos_of_the_run_are_served(rater: Rater, tmp_path: Path):
    for path in (
        "/0/../left.mp4",
        "/0/%2e%2e%2fleft.mp4",
        "/0/middle.mp4",
        "/0/left.json",
        "/0/left",
        "/-1/left.mp4",
    ):
        assert rater.get(path).status_code in (404, 422)


def test_a_video_that_points_out_of_the_run_is_not_served(tmp_path: Path, store: VoteStore):
    one, other = (
        world.evaluated_run(tmp_path / name, world.clips(world.CAPTIONS[:1])) for name in ("a", "b")
    )
    study = world.study_of(one, other)
    (token,) = store.ensure_raters(1)
    video = study.video(0, showings(study, 1)[0].left)
    with world.served(study, store) as base:
        assert requests.get(f"{base}/{token}/0/left.mp4", timeout=10).status_code == 200
        video.symlink_to(video.rename(tmp_path / "secret.mp4"))
        assert requests.get(f"{base}/{token}/0/left.mp4", timeout=10).status_code == 404
        video.unlink()
        assert requests.get(f"{base}/{token}/0/left.mp4", timeout=10).status_code == 404


def test_no_name_of_a_run_and_no_time_of_a_file_is_ever_said(rater: Rater, study: Study):
    seen = [rater.get(), rater.get("/state"), rater.vote(0, "visual_quality", "left")]
    seen += [rater.get(f"/{number}/{side}.mp4") for number in range(3) for side in ("left", "right")]
    seen += [rater.vote(0, "visual_quality", "left"), rater.vote(0, "x", "y"), rater.get("/9/left.mp4")]
    base = rater.address.rpartition("/")[0]
    seen += [requests.get(f"{base}/assets/study.{kind}", timeout=10) for kind in ("js", "css")]
    for response in seen:
        told = response.content.lower() + str(response.headers).lower().encode() + response.url.encode()
        for contestant in study.contestants:
            assert contestant.name.encode() not in told
        for clip in study.clips:
            assert clip.clip_id.encode() not in told
    dates = {rater.get(f"/{number}/left.mp4").headers["last-modified"] for number in range(3)}
    assert dates == {"Thu, 01 Jan 1970 00:00:00 GMT"}


def test_the_address_with_the_token_stays_with_the_rater(rater: Rater):
    for path in ("", "/state", "/0/left.mp4", "/9/left.mp4"):
        headers = rater.get(path).headers
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in headers
    assert rater.get("/state").headers["cache-control"] == "no-store"
