"""The sample stream."""

from collections import Counter

import pytest

from pipelines.training.index import BucketClips, ClipsBuilder, RowGroup
from pipelines.training.stream import ReadAhead, SampleStream, worker_slice

BATCH = 8


def bucket(
    name: str, clips: int, *, dataset: str = "own", row_group_clips: int = 5, fingerprint: str = "f"
) -> BucketClips:
    builder = ClipsBuilder()
    rows = [{"clip_id": f"{name}-{i}", "motion_score": None} for i in range(clips)]
    for first in range(0, clips, row_group_clips):
        group = RowGroup(f"{name}.parquet", first)
        builder.add(group, list(enumerate(rows[first : first + row_group_clips])))
    return builder.clips(dataset, name, fingerprint)


def stream(*clips: int, seed: int = 0, fingerprint: str = "f") -> SampleStream:
    buckets = [bucket(f"b{i}", n, fingerprint=fingerprint) for i, n in enumerate(clips)]
    return SampleStream(buckets, seed=seed, batch_samples=BATCH)


def clip_ids(stream: SampleStream, batches: range, workers: int) -> list[str]:
    """What `workers` workers see together, each reading its own part of every batch."""
    return [
        sample.clip_id
        for index in batches
        for rank in range(workers)
        for sample in worker_slice(stream.batch(index), rank, workers)
    ]


@pytest.mark.parametrize("workers", [2, 4])
def test_the_stream_is_the_same_for_any_number_of_workers(workers: int) -> None:
    assert clip_ids(stream(83, 21), range(40), workers) == clip_ids(stream(83, 21), range(40), 1)


def test_the_stream_goes_on_after_any_batch_as_if_it_had_not_stopped() -> None:
    whole = clip_ids(stream(83, 21), range(40), 1)
    assert clip_ids(stream(83, 21), range(17, 40), 1) == whole[17 * BATCH :]


def test_sample_numbers_have_no_gap_and_no_repetition() -> None:
    numbers = [sample.number for index in range(10) for sample in stream(83, 21).batch(index)]
    assert numbers == list(range(10 * BATCH))


def test_every_clip_comes_once_an_epoch_in_a_new_order() -> None:
    one = stream(48)
    first, second = clip_ids(one, range(6), 1), clip_ids(one, range(6, 12), 1)
    assert Counter(first) == Counter(second) == Counter(one.buckets["b0"].clip_ids.to_pylist())
    assert first != second
    assert first != sorted(first)


def test_clips_of_distant_row_groups_mix() -> None:
    one = SampleStream([bucket("b", 400, row_group_clips=10)], seed=0, batch_samples=BATCH)
    assert max(len({sample.group for sample in one.batch(i)}) for i in range(10)) > 4


def test_a_workers_share_lies_in_few_row_groups() -> None:
    one = SampleStream([bucket("b", 1000, row_group_clips=16)], seed=0, batch_samples=64)
    shares = [worker_slice(one.batch(i), rank, 8) for i in range(10) for rank in range(8)]
    groups = [len({sample.group for sample in share}) for share in shares]  # of 8 clips each
    assert sum(groups) / len(groups) < 3


def test_a_batch_is_of_one_bucket_and_the_smallest_bucket_has_its_turn() -> None:
    one = stream(83, 3)
    batches = [{sample.bucket for sample in one.batch(i)} for i in range(22)]
    assert all(len(batch) == 1 for batch in batches)
    assert sum(batch == {"b1"} for batch in batches) == 2  # one turn in each of two rounds
    assert one.bucket_shares == {"b0": 10 / 11, "b1": 1 / 11}


@pytest.mark.parametrize("other", [{"seed": 1}, {"fingerprint": "g"}])
def test_seed_and_data_set_change_the_order(other: dict[str, object]) -> None:
    assert clip_ids(stream(83, **other), range(10), 1) != clip_ids(stream(83), range(10), 1)  # type: ignore[arg-type]


def test_an_empty_bucket_is_an_error() -> None:
    with pytest.raises(ValueError, match="b1"):
        stream(83, 0)


def test_a_clip_is_found_in_its_row_group_and_row() -> None:
    clips = bucket("b", 13)
    assert clips.at(11) == (RowGroup("b.parquet", 10), 1, "b-11", None)


def test_an_error_of_the_reading_thread_reaches_the_loop() -> None:
    def prepare(index: int) -> int:
        if index == 3:
            raise OSError("the disk is gone")
        return index

    ahead = ReadAhead(prepare, 0, 5)
    batches = iter(ahead)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    ahead.close()


def test_data_sets_have_their_shares_and_each_bucket_its_turn() -> None:
    buckets = [bucket("a", 160), bucket("b", 80), bucket("c", 40, dataset="pexels")]
    mixed = SampleStream(buckets, seed=0, batch_samples=BATCH, shares={"own": 0.25, "pexels": 0.75})
    assert mixed.turns == {"a": 20, "b": 10, "pexels/c": 90}
    seen = Counter(sample.bucket for index in range(120) for sample in mixed.batch(index))
    assert seen == {"a": 160, "b": 80, "pexels/c": 720}
    once = Counter(clip_ids(mixed, range(120), 1))
    assert {count for clip, count in once.items() if clip[0] != "c"} == {1}
    assert {count for clip, count in once.items() if clip[0] == "c"} == {18}


def test_without_shares_a_data_set_counts_by_its_clips() -> None:
    buckets = [bucket("a", 80), bucket("a", 40, dataset="pexels")]
    assert SampleStream(buckets, seed=0, batch_samples=BATCH).turns == {"a": 10, "pexels/a": 5}
