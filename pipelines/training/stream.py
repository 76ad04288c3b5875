"""The sample stream: which clip is sample number n, as a pure function of (seed, data set, n).

Row groups of a bucket are shuffled, then samples within a window of some row groups, anew in every
epoch. A global batch is of one bucket of one data set; buckets take turns in proportion to their clips, data
sets in proportion to their shares, and the smallest is never left out. Workers only divide a batch, so the
stream is the same for any number of them.
"""

import hashlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.recipe import TrainSettings
from pipelines.training.index import BucketClips, ClipIndex, RowGroup

WINDOW_ROW_GROUPS = 8
CACHE_BYTES = 2**29
BATCHES_AHEAD = 2
HASHED_AT_ONCE = 100_000  # clip ids


Loaded = tuple[str, pa.Table]  # path of the shard, one of its row groups


class Sample(NamedTuple):
    number: int  # global sample number within the stage
    bucket: str
    group: RowGroup
    row: int  # row within the row group
    clip_id: str
    motion_score: float | None


def bucket_turns(clips: Mapping[str, int], batch_samples: int) -> dict[str, int]:
    """Batches of each bucket in a round of one data set: as its clips fill batches, at least one."""
    return {name: max(1, round(number / batch_samples)) for name, number in clips.items()}


class SampleStream:
    """Global batches by number.

    buckets: clips of each bucket, none empty. shares: of the samples by data set, in any unit; default: as
    many as they have clips. Raises ValueError when there are no clips.
    """

    def __init__(
        self,
        buckets: Sequence[BucketClips],
        *,
        seed: int,
        batch_samples: int,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        empty = [clips.name for clips in buckets if not len(clips)]
        if empty or not buckets:
            raise ValueError(f"no clips to train on in bucket {', '.join(empty) or '(none given)'}")
        self.buckets = {clips.name: clips for clips in sorted(buckets, key=lambda clips: clips.name)}
        self.batch_samples = batch_samples
        self.seed = seed
        self.fingerprint = stream_fingerprint(buckets)
        self.turns = _turns(self.buckets, batch_samples, shares)
        self._round = lru_cache(maxsize=2)(self._round_uncached)
        self._epoch = lru_cache(maxsize=2 * len(self.buckets))(self._epoch_uncached)

    def batch(self, index: int) -> list[Sample]:
        """Samples of global batch `index` (from 0), in order of their global sample numbers.

        Within a batch they are in the order of the shards: a worker's share lies in few row groups, which it
        reads whole.
        """
        round_number, turn = divmod(index, sum(self.turns.values()))
        order, earlier = self._round(round_number)
        name = order[turn]
        first = (round_number * self.turns[name] + earlier[turn]) * self.batch_samples
        chosen = sorted(self._clip(name, first + i) for i in range(self.batch_samples))
        clips = self.buckets[name]
        return [
            Sample(index * self.batch_samples + i, name, *clips.at(clip)) for i, clip in enumerate(chosen)
        ]

    def _clip(self, bucket: str, position: int) -> int:
        epoch, place = divmod(position, len(self.buckets[bucket]))
        return int(self._epoch(bucket, epoch)[place])

    def _round_uncached(self, round_number: int) -> tuple[list[str], list[int]]:
        """Whose turn it is throughout a round, and how many turns of it that bucket had before."""
        turns = [name for name, times in self.turns.items() for _ in range(times)]
        order = [turns[i] for i in self._generator("round", round_number).permutation(len(turns))]
        had: Counter[str] = Counter()
        earlier = []
        for name in order:
            earlier.append(had[name])
            had[name] += 1
        return order, earlier

    def _epoch_uncached(self, bucket: str, epoch: int) -> np.ndarray:
        """Order of one epoch: indices of the bucket's clips, each once."""
        generator = self._generator("epoch", bucket, epoch)
        spans = self.buckets[bucket].spans  # (groups, 2): first and last + 1 clip of each row group
        shuffled = spans[generator.permutation(len(spans))]
        windows = [shuffled[i : i + WINDOW_ROW_GROUPS] for i in range(0, len(shuffled), WINDOW_ROW_GROUPS)]
        clips = [np.concatenate([np.arange(first, end) for first, end in window]) for window in windows]
        return np.concatenate([generator.permutation(window) for window in clips])

    def _generator(self, *what: Any) -> np.random.Generator:
        key = repr((self.seed, self.fingerprint, *what)).encode()
        return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(key).digest(), "big")))

    @property
    def bucket_shares(self) -> dict[str, float]:
        """Share of the samples that come from each bucket."""
        turns = sum(self.turns.values())
        return {name: times / turns for name, times in self.turns.items()}


def training_stream(index: ClipIndex, settings: TrainSettings, seed: int) -> SampleStream:
    """The stream of a stage over the clips of its index."""
    return SampleStream(
        index.clips("train"), seed=seed, batch_samples=settings.global_batch_clips, shares=index.shares
    )


def _turns(
    buckets: Mapping[str, BucketClips], batch_samples: int, shares: Mapping[str, float] | None
) -> dict[str, int]:
    """Batches of each bucket in a round: as often as its clips fill batches, at least once.

    With shares the data set that has most clips for its share is gone through once a round, the others more
    often.
    """
    fill = bucket_turns({name: len(clips) for name, clips in buckets.items()}, batch_samples)
    if shares is None:
        return fill
    of_dataset: Counter[str] = Counter()
    for name, clips in buckets.items():
        of_dataset[clips.dataset] += fill[name]
    longest = max(turns / shares[dataset] for dataset, turns in of_dataset.items())
    times = {dataset: longest * shares[dataset] / turns for dataset, turns in of_dataset.items()}
    return {name: max(1, round(fill[name] * times[clips.dataset])) for name, clips in buckets.items()}


def stream_fingerprint(buckets: Sequence[BucketClips]) -> str:
    """Hash of what the order depends on: clips, row groups, buckets, and the shards' own fingerprint."""
    digest = hashlib.sha256()
    for clips in sorted(buckets, key=lambda clips: clips.name):
        digest.update(repr((clips.name, clips.fingerprint, clips.spans.tolist())).encode())
        for first in range(0, len(clips), HASHED_AT_ONCE):
            some = clips.clip_ids.slice(first, HASHED_AT_ONCE).to_pylist()
            digest.update("".join(f"{clip_id}\n" for clip_id in some).encode())
    return digest.hexdigest()


def worker_slice(samples: list[Sample], rank: int, workers: int) -> list[Sample]:
    """The part of a global batch that worker `rank` trains on."""
    share = len(samples) // workers
    return samples[rank * share : (rank + 1) * share]


class RowReader:
    """Decoded rows of samples; the last row groups stay in memory up to CACHE_BYTES."""

    def __init__(
        self, load: Callable[[RowGroup], Loaded], decode: Callable[[Loaded, int], dict[str, Any]]
    ) -> None:
        self.load, self.decode = load, decode
        self.cache: OrderedDict[RowGroup, Loaded] = OrderedDict()
        self.bytes = 0

    def rows(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        rows = [self.decode(self._group(sample.group), sample.row) for sample in samples]
        for sample, row in zip(samples, rows, strict=True):
            if row["clip_id"] != sample.clip_id:
                raise ValueError(
                    f"{sample.group.path} changed while training: row {sample.row} of row group "
                    f"{sample.group.number} is {row['clip_id']}, expected {sample.clip_id}"
                )
        return rows

    def _group(self, group: RowGroup) -> Loaded:
        if group in self.cache:
            self.cache.move_to_end(group)
            return self.cache[group]
        loaded = self.load(group)
        self.cache[group] = loaded
        self.bytes += loaded[1].nbytes
        while self.bytes > CACHE_BYTES and len(self.cache) > 1:
            _, (_, evicted) = self.cache.popitem(last=False)
            self.bytes -= evicted.nbytes
        return loaded


class ReadAhead:
    """Results of `prepare(index)` for index = first … last − 1, made in a thread some batches ahead."""

    def __init__(self, prepare: Callable[[int], Any], first: int, last: int) -> None:
        self.prepare, self.next, self.last = prepare, first, last
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self.waiting: deque[Future[Any]] = deque()

    def __iter__(self) -> Iterator[Any]:
        while self.next < self.last or self.waiting:
            while self.next < self.last and len(self.waiting) <= BATCHES_AHEAD:
                self.waiting.append(self.thread.submit(self.prepare, self.next))
                self.next += 1
            yield self.waiting.popleft().result()

    def close(self) -> None:
        self.thread.shutdown(wait=True, cancel_futures=True)
