"""Which videos meet, in which order, on which side."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.evaluation.reference import write_clips
from pipelines.media import write_mp4
from pipelines.study.order import showings
from pipelines.study.plan import StudyError, check_videos, open_study, study_file
from tests.pipelines.study import world

FEW = world.CAPTIONS[:3]


def test_runs_are_paired_by_the_clips_that_both_have(tmp_path: Path):
    one = world.evaluated_run(tmp_path / "one", world.clips(FEW))
    other = world.evaluated_run(tmp_path / "other", world.clips(FEW[:2]) + world.clips(FEW, "pan"))
    study = world.study_of(one, other)
    assert {(clip.set, clip.clip_id) for clip in study.clips} == {
        ("held_out", "clip000"),
        ("held_out", "clip001"),
    }
    assert [contestant.name for contestant in study.contestants] == ["one", "other"]


def test_every_two_of_three_runs_meet_equally_often_about_the_same_clips(runs: tuple[Path, Path]):
    study = world.study_of(*runs, with_real=True, pairs=21)
    meetings = Counter((pair.one, pair.other) for pair in study.pairs)
    assert meetings == {(0, 1): 7, (0, 2): 7, (1, 2): 7}
    assert Counter(pair.clip for pair in study.pairs) == dict.fromkeys(range(7), 3)


def test_real_videos_take_part_when_asked_for(runs: tuple[Path, Path]):
    study = world.study_of(runs[0], with_real=True)
    assert [contestant.name for contestant in study.contestants] == ["steady", "real"]
    assert study.video(0, 1) != study.video(0, 0)
    assert "reference" in study.video(0, 1).parts


def test_a_seed_chooses_clips_and_always_the_same(runs: tuple[Path, Path]):
    assert world.study_of(*runs, pairs=5) == world.study_of(*runs, pairs=5)
    assert world.study_of(*runs, pairs=5, seed=1).clips != world.study_of(*runs, pairs=5, seed=2).clips


def test_captions_that_differ_are_refused(tmp_path: Path):
    one = world.evaluated_run(tmp_path / "one", world.clips(FEW))
    other = world.evaluated_run(tmp_path / "other", world.clips([FEW[0], "Something else", FEW[2]]))
    with pytest.raises(StudyError, match=r"clip001.*'Something else'.*not asked for the same video"):
        world.study_of(one, other)


def test_what_cannot_be_made_is_said_with_what_to_do(runs: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(StudyError, match="two runs, or one and --with-real"):
        world.study_of(runs[0])
    with pytest.raises(StudyError, match="a run stands twice"):
        world.study_of(runs[0], runs[0])
    with pytest.raises(StudyError, match=r"no whole evaluation 'low'; it has final"):
        world.study_of(*runs, evaluation="low")
    with pytest.raises(StudyError, match="no clip of the set 'pan' in common"):
        world.study_of(*runs, set="pan")
    with pytest.raises(StudyError, match="--pairs 13: there are 12"):
        world.study_of(*runs, pairs=13)
    with pytest.raises(StudyError, match="no study in"):
        open_study(runs, tmp_path / "out", {}, make=False)


def test_a_video_outside_the_run_is_refused(tmp_path: Path):
    one, other = (world.evaluated_run(tmp_path / name, world.clips(FEW)) for name in ("one", "other"))
    video = one / "evaluate/final/videos/held_out/clip001.mp4"
    outside = video.rename(tmp_path / "secret.mp4")
    video.symlink_to(outside)
    with pytest.raises(StudyError, match=r"secret.mp4 lies outside"):
        world.study_of(one, other)
    video.unlink()
    clips = world.clips(FEW)
    crafted = [clips[0], clips[2], replace(clips[1], clip_id="../../../../../secret")]
    for run in (one, other):
        write_clips(run / "evaluate/final/clips.jsonl", crafted)
    with pytest.raises(StudyError, match=r"secret.mp4 lies outside"):
        world.study_of(one, other)


def test_a_study_is_opened_as_it_was_made(runs: tuple[Path, Path], tmp_path: Path):
    out = tmp_path / "study"
    folder, made = open_study(runs, out, {"pairs": 4, "seed": 3})
    assert (folder, made) == (out, open_study(runs, out, {})[1])
    assert open_study([out], None, {}) == (out, made)
    assert len(json.loads(study_file(out).read_text())["pairs"]) == 4
    with pytest.raises(StudyError, match="a study with pairs 4, not 5: give --out for another"):
        open_study(runs, out, {"pairs": 5})
    with pytest.raises(StudyError, match="a study with runs"):
        open_study([runs[1], runs[0]], out, {})


def test_its_folder_is_in_the_first_run_unless_told_otherwise(tmp_path: Path):
    one, other = (world.evaluated_run(tmp_path / name, world.clips(FEW)) for name in ("one", "other"))
    assert open_study([one, other], None, {})[0] == one / "study" / "other"
    assert open_study([one], None, {"with_real": True})[0] == one / "study" / "real"


def test_votes_without_their_study_are_not_mixed_with_another(runs: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "study.sqlite").touch()
    with pytest.raises(StudyError, match=r"study.json beside it is gone"):
        open_study(runs, tmp_path, {})


def test_videos_that_were_drawn_anew_are_refused(tmp_path: Path):
    one, other = (world.evaluated_run(tmp_path / name, world.clips(FEW)) for name in ("one", "other"))
    study = world.study_of(one, other)
    check_videos(study)
    write_mp4(study.video(0, 1), world.frames("another video"), world.FPS)
    with pytest.raises(StudyError, match="not the video any more that the study was made of"):
        check_videos(study)


def test_each_rater_sees_every_pair_once_in_an_order_of_their_own(runs: tuple[Path, Path]):
    study = world.study_of(*runs)
    orders = [[showing.pair for showing in showings(study, rater)] for rater in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
    assert orders[0] != orders[1] != list(range(12))
    assert showings(study, 1) == showings(study, 1)


def test_each_run_stands_left_and_right_equally_often(runs: tuple[Path, Path]):
    study = world.study_of(*runs, with_real=True, pairs=30)
    for rater in range(1, 5):
        shown = showings(study, rater)
        for pair in ((0, 1), (0, 2), (1, 2)):
            lefts = Counter(showing.left for showing in shown if {showing.left, showing.right} == set(pair))
            assert sorted(lefts.values()) == [5, 5]
    sides = [tuple(showing.left for showing in showings(study, rater)) for rater in range(1, 9)]
    assert len(set(sides)) == 8
