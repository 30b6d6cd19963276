"""Rows → batches of like length, in an order that needs no memory and no history.

Padding costs as much as text. So an epoch's shuffled rows are taken a pool at a time, sorted by length, dealt out in
groups as large as a batch, and the groups shuffled: what is in a batch is random, but for being of like length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from yuwen.data.records import RowShards
from yuwen.data.windows import mix, permute
from yuwen.errors import UserError

_POOL = 64  # groups in a pool


@dataclass(frozen=True)
class Rows:
    """A batch of rows: the ids of their texts by role, without special tokens, and what they were given."""

    fields: dict[str, list[np.ndarray]]  # int64, each at most `length` long
    labels: np.ndarray | None  # int64 [B]
    scores: np.ndarray | None  # float32 [B]
    positions: np.ndarray  # int64 [B]: the global positions
    length: int  # what an input may hold at most, special tokens included


class Records:
    """Rows in batches of `group`, shuffled anew in every epoch; every row once an epoch, or at most once, with `whole`:
    then an epoch ends with its last whole group, and no batch holds a row twice.

    Position p of the whole training is number i = p mod N of epoch e = p div N, in a permutation of all rows. A pool is
    a stretch of up to 64 groups, fewer where rows are few, so that at least four pools make an epoch where there are
    rows enough; pools and groups begin at multiples of their size, whatever the epoch, so that a batch of `group` rows
    at such a position is one group. So a row is a pure function of (seed, group, position).
    """

    def __init__(self, shards: RowShards, length: int, group: int, seed: int = 0, *, whole: bool = False) -> None:
        if length < 1 or group < 1:
            raise UserError(f"data.length={length}, {group} rows in a batch: both must be at least 1")
        if whole and len(shards) < group:
            raise UserError(f"{len(shards)} rows are less than one batch of {group}")
        self.shards, self.length, self.group = shards, length, group
        self.per_epoch = len(shards) - (len(shards) % group if whole else 0)
        self._pool = group * max(1, min(_POOL, self.per_epoch // (4 * group)))
        self._seed = np.uint64(seed % 2**64)
        self._known: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    def samples(self, positions: np.ndarray) -> Rows:
        """The rows at some global positions [B]."""
        return rows_of(self.shards, self.order(positions), self.length, np.asarray(positions, np.int64))

    def order(self, positions: np.ndarray) -> np.ndarray:
        """Which row stands at each global position, int64 [B]."""
        found = np.empty(len(positions), np.int64)
        for place, position in enumerate(positions.tolist()):
            start, rows = self._stretch(position // self.per_epoch, position // self._pool)
            found[place] = rows[position - start]
        return found

    def _stretch(self, epoch: int, pool: int) -> tuple[int, np.ndarray]:
        """Where the part of a pool that lies in an epoch begins, and its rows in their order."""
        if (epoch, pool) not in self._known:
            while len(self._known) > 1:  # batches go on: only the last two can be met again
                self._known.pop(next(iter(self._known)))
            self._known[epoch, pool] = self._dealt(epoch, pool)
        return self._known[epoch, pool]

    def _dealt(self, epoch: int, pool: int) -> tuple[int, np.ndarray]:
        total = self.per_epoch
        start, stop = max(pool * self._pool, epoch * total), min((pool + 1) * self._pool, (epoch + 1) * total)
        key = mix(np.array([epoch], np.uint64) ^ mix(np.full(1, self._seed)))
        drawn = permute(np.arange(start, stop) - epoch * total, len(self.shards), key).astype(np.int64)
        by_length = drawn[np.argsort(self.shards.lengths[drawn], kind="stable")]
        whole = np.arange(-(-start // self.group) * self.group, stop, self.group)
        edges = np.unique(np.concatenate([[start], whole, [stop]])) - start
        turn = permute(np.arange(len(edges) - 1), len(edges) - 1, mix(~key + np.uint64(pool))).astype(np.int64)
        ends = np.cumsum(np.diff(edges)[turn])
        rows = np.empty_like(by_length)
        for group, end in zip(turn, ends, strict=True):
            first, last = edges[group], edges[group + 1]
            rows[first:last] = by_length[end - (last - first) : end]
        return start, rows


def in_order(shards: RowShards, length: int, size: int) -> Iterator[Rows]:
    """Every row once, the shortest first, up to `size` at a time and equally many, or nearly: for measuring, where
    order means nothing, and a row that was left alone would have none to be compared with (of an odd number, in
    twos, three stand together)."""
    by_length = np.argsort(shards.lengths, kind="stable")
    parts = -(-len(by_length) // size)
    if size > 1:
        parts = min(parts, max(1, len(by_length) // 2))
    for chosen in np.array_split(by_length, parts):
        yield rows_of(shards, chosen, length, chosen)


def rows_of(shards: RowShards, chosen: np.ndarray, length: int, positions: np.ndarray) -> Rows:
    """Some rows by their numbers."""
    return Rows(
        fields={
            role: [shards.text(row, place, length) for row in chosen.tolist()]
            for place, role in enumerate(shards.fields)
        },
        labels=None if shards.labels is None else shards.labels[chosen].astype(np.int64),
        scores=None if shards.scores is None else np.asarray(shards.scores[chosen]),
        positions=positions,
        length=length,
    )
