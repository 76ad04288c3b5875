"""Near-duplicates over the whole clip table: pictures whose perceptual hashes differ in a few bits.

A distributed group-by. Clips with one hash are one picture; two hashes that differ in at most `bits` bits
agree in at least one of `bits` + 1 bands (pigeonhole), so pictures are grouped by band and compared within
groups only. Tasks hand each other numpy arrays through Ray's object store: 44 bytes a clip; the driver
holds references.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipelines.curation.clip_table import clips_path
from pipelines.curation.verdicts import EXCLUDED, KEPT
from pipelines.layout import RunLayout
from pipelines.storage import read_table

HASH_BITS = 64
SEVERAL = 0  # in place of a source: the picture is in more than one
# `source` is SEVERAL or the one source of all clips, `owner` the source of the clip with the smallest id.
PICTURE = np.dtype([("hash", np.uint64), ("source", np.uint64), ("owner", np.uint64), ("clip", "S20")])
# Aligned: of a column of odd addresses numpy's searchsorted makes a copy, for every clip that it looks up.
STAND_IN = np.dtype([("hash", np.uint64), ("owner", np.uint64), ("clip", "S20")], align=True)
PAIR = np.dtype([("one", np.uint64), ("other", np.uint64)])
UNITS_PER_TASK = 256
MOST_PARTS = 128  # the driver holds a reference for every two of them
ROWS_AT_ONCE = 1024  # compared with the rest of their group in one go


def find_duplicates(units: int, bits: int, layout: RunLayout) -> Any:
    """Reference to the stand-ins (STAND_IN, ascending by hash) of all units' kept clips.

    A kept clip whose hash is among them is a duplicate of the clip that stands there, the one with the
    smallest id of its group, unless both are of one source: these are no duplicates of each other.
    """
    import ray

    size = max(UNITS_PER_TASK, -(-units // MOST_PARTS))
    ranges = [range(first, min(units, first + size)) for first in range(0, units, size)]
    parts = len(ranges)
    kept = ray.remote(num_returns=parts)(kept_pictures)
    scattered = [kept.remote(span, parts, layout) for span in ranges]
    columns = [[part] for part in scattered] if parts == 1 else list(zip(*scattered, strict=True))
    merged = ray.remote(merge)
    pictures = [merged.remote(*column) for column in columns]
    close = ray.remote(close_pairs)
    pairs = [
        close.remote(band, bits, part, parts, *pictures) for band in range(bits + 1) for part in range(parts)
    ]
    return ray.remote(stand_ins).remote(len(pictures), *pictures, *pairs)


def kept_pictures(units: Iterable[int], parts: int, layout: RunLayout) -> Any:
    """Pictures (PICTURE) of the kept clips of some units, divided by hash into `parts`.

    And of clips that were taken down: no copy comes back in their place.
    """
    found = [np.empty(0, PICTURE)]
    for unit in units:
        columns = ["clip_id", "source_id", "phash", "verdict", "reason"]
        table = read_table(clips_path(layout, unit), columns=columns)
        stands = (pc.field("verdict") == KEPT) | (pc.field("reason") == EXCLUDED)
        table = table.filter(stands & pc.field("phash").is_valid())
        rows = np.empty(len(table), PICTURE)
        rows["hash"] = [int(value, 16) for value in table["phash"].to_pylist()]
        rows["source"] = rows["owner"] = [source_key(value) for value in table["source_id"].to_pylist()]
        rows["clip"] = table["clip_id"].to_pylist()
        found.append(rows)
    pictures = merge(*found)
    divided = [pictures[pictures["hash"] % np.uint64(parts) == part] for part in range(parts)]
    return divided if parts > 1 else divided[0]


def source_key(source_id: str) -> int:
    """64 bits for a source, never SEVERAL."""
    import hashlib

    return int.from_bytes(hashlib.sha256(source_id.encode()).digest()[:8], "big") | 1


def merge(*parts: np.ndarray) -> np.ndarray:
    """One row per hash, ascending: its source, or SEVERAL, and its smallest clip id."""
    rows = np.concatenate(parts)
    rows = rows[np.lexsort((rows["clip"], rows["hash"]))]
    if not len(rows):
        return rows
    starts = np.flatnonzero(np.r_[True, rows["hash"][1:] != rows["hash"][:-1]])
    least, most = (ufunc.reduceat(rows["source"], starts) for ufunc in (np.minimum, np.maximum))
    merged = rows[starts]
    merged["source"] = np.where(least == most, least, SEVERAL)
    return merged


def close_pairs(band: int, bits: int, part: int, parts: int, *pictures: np.ndarray) -> np.ndarray:
    """Pairs (PAIR) of pictures that agree in a band and differ in at most `bits` bits, one part of the band.

    Not two pictures of the same single source.
    """
    edges = np.linspace(0, HASH_BITS, bits + 2).round().astype(int)
    low, width = np.uint64(edges[band]), int(edges[band + 1] - edges[band])

    def band_bits(rows: np.ndarray) -> np.ndarray:
        return np.asarray((rows["hash"] >> low) & np.uint64((1 << width) - 1))

    # One array after the other: of all pictures, a task copies no more than its own part.
    mine = [p[["hash", "source"]][band_bits(p) % np.uint64(parts) == part] for p in pictures]
    rows = np.concatenate(mine)
    keys = band_bits(rows)
    order = np.argsort(keys, kind="stable")
    rows, keys = rows[order], keys[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1], True][: len(keys) + 1])
    found = [
        pairs
        for first, last in pairwise(starts)
        if last - first > 1
        for pairs in _close(rows[first:last], bits)
    ]
    return np.concatenate([np.empty(0, PAIR), *found])


def _close(group: np.ndarray, bits: int) -> Iterator[np.ndarray]:
    hashes, sources = group["hash"], group["source"]
    for first in range(0, len(group), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        near = np.bitwise_count(hashes[some, None] ^ hashes[None, first:]) <= bits
        near &= (sources[some, None] != sources[None, first:]) | (sources[some, None] == SEVERAL)
        one, other = np.nonzero(np.triu(near, 1))
        pairs = np.empty(len(one), PAIR)
        pairs["one"], pairs["other"] = hashes[first + one], hashes[first + other]
        yield pairs


def stand_ins(parts: int, *arrays: np.ndarray) -> np.ndarray:
    """Pictures (the first `parts` arrays) and pairs (the others) → STAND_IN of every picture in a group.

    A group is what pairs connect, or one picture of several sources.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pictures, pairs = np.concatenate(arrays[:parts]), np.concatenate([np.empty(0, PAIR), *arrays[parts:]])
    pictures = pictures[np.argsort(pictures["hash"])]
    paired = np.isin(pictures["hash"], np.r_[pairs["one"], pairs["other"]], kind="sort")
    pictures = pictures[paired | (pictures["source"] == SEVERAL)]
    if not len(pictures):
        return np.empty(0, STAND_IN)
    ends = [np.searchsorted(pictures["hash"], pairs[name]) for name in ("one", "other")]
    graph = coo_array((np.ones(len(pairs), bool), ends), shape=(len(pictures),) * 2)
    _, groups = connected_components(graph, directed=False)
    order = np.lexsort((pictures["clip"], groups))
    firsts = order[np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1]])]  # by group
    found = np.empty(len(pictures), STAND_IN)
    found["hash"] = pictures["hash"]
    for name in ("owner", "clip"):
        found[name] = pictures[name][firsts][groups]
    return found


def stand_in_of(source_id: str, phash: str, found: np.ndarray) -> str | None:
    """The clip that a kept clip of a source is a duplicate of; None when it is none."""
    value = np.uint64(int(phash, 16))
    place = int(np.searchsorted(found["hash"], value))
    if place == len(found) or found["hash"][place] != value or found["owner"][place] == source_key(source_id):
        return None
    clip: bytes = found["clip"][place]
    return clip.decode()
