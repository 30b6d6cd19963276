"""Rows that read on: nothing is skipped, nothing read twice in an epoch, nothing depends on history or processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen.data import Loader, Shards, Streams
from yuwen.errors import UserError

LENGTHS, ROWS, SEEDS = st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**70)


def steps(streams: Streams, first: int, count: int) -> np.ndarray:
    """The positions of some steps, [count, rows]."""
    return np.arange(first * streams.rows, (first + count) * streams.rows).reshape(count, streams.rows)


@given(length=LENGTHS, rows=ROWS, seed=SEEDS, first=st.integers(0, 10**6))
def test_a_row_reads_on_without_a_gap(some_shards: Shards, length: int, rows: int, seed: int, first: int) -> None:
    streams, total = Streams(some_shards, length, rows, seed), len(some_shards)
    one, two = (streams.samples(positions) for positions in steps(streams, first, 2))
    starts = streams.starts(one.positions)
    assert np.array_equal(streams.starts(two.positions), (starts + length) % total)
    assert np.array_equal(one.ids[:, -1], two.ids[:, 0])  # the last target is the next input
    assert np.array_equal(one.ids, some_shards.tokens[(starts[:, None] + np.arange(length + 1)) % total])
    assert np.array_equal(one.flags, some_shards.flags[(starts[:, None] + np.arange(length + 1)) % total])
    assert one.stream is not None and np.array_equal(one.stream, np.arange(rows)) and one.streams == rows
    assert two.fresh is not None and not two.fresh.any()
    assert one.fresh is not None and one.fresh.all() == one.fresh.any() == (first == 0)


@given(length=LENGTHS, rows=ROWS, seed=SEEDS, epoch=st.integers(0, 5))
def test_an_epoch_reads_every_token_once(some_shards: Shards, length: int, rows: int, seed: int, epoch: int) -> None:
    streams, total = Streams(some_shards, length, rows, seed), len(some_shards)
    share = total // (rows * length)  # whole steps in a row's shortest share of the ring
    starts = streams.starts(steps(streams, epoch * share, share).ravel())
    times = np.bincount(((starts[:, None] + np.arange(length)) % total).ravel(), minlength=total)
    assert times.max() == 1 and times.sum() == share * rows * length  # never twice within an epoch
    starts = streams.starts(steps(streams, epoch * share, share + 2).ravel())
    times = np.bincount(((starts[:, None] + np.arange(length)) % total).ravel(), minlength=total)
    assert times.min() >= 1  # and none is left out


def test_windows_are_cut_elsewhere_in_the_next_epoch(some_shards: Shards) -> None:
    total = len(some_shards)
    length = next(n for n in range(16, 64) if (total // 4) % n)
    streams = Streams(some_shards, length, 4, 1)
    share = -(-total // (4 * length))
    first, second = (streams.starts(steps(streams, epoch * share, share).ravel()) for epoch in (0, 1))
    assert len(set(first) & set(second)) < len(first) / 2


@given(position=st.integers(0, 10**9), seed=SEEDS)
def test_a_sample_depends_on_seed_and_position_only(some_shards: Shards, position: int, seed: int) -> None:
    one = Streams(some_shards, 16, 5, seed).samples(np.array([position]))
    two = Streams(some_shards, 16, 5, seed).samples(np.array([3, position, position + 1]))
    assert one.ids.shape == (1, 17) and one.positions.tolist() == [position]
    assert np.array_equal(one.ids[0], two.ids[1]) and np.array_equal(one.flags[0], two.flags[1])
    assert two.stream is not None and one.stream is not None and two.stream[1] == one.stream[0] == position % 5


def test_seeds_begin_elsewhere(some_shards: Shards) -> None:
    assert len({int(Streams(some_shards, 16, 2, seed).starts(np.array([0]))[0]) for seed in range(9)}) > 5


@given(share=st.integers(1, 4), micro=st.integers(1, 3), world=st.integers(1, 3), done=st.integers(0, 4))
def test_each_rank_owns_its_rows(some_shards: Shards, share: int, micro: int, world: int, done: int) -> None:
    """Over micro-batches and ranks every row is read once a step, always by the same rank, whatever was resumed."""
    samples = share * world
    streams = Streams(some_shards, 8, samples * micro, 7)
    owned = []
    for rank in range(world):
        loader = Loader(streams, samples, rank, world, position=done * streams.rows)
        read = [loader.next_batch().stream for _ in range(2 * micro)]
        once, again = np.concatenate(read[:micro]), np.concatenate(read[micro:])
        assert np.array_equal(once, again)
        own = loader.own(streams.rows)
        assert np.array_equal(np.sort(once), np.flatnonzero(own))
        owned.append(own)
    assert np.array_equal(np.sum(owned, axis=0), np.ones(streams.rows))


def test_too_little_text_is_refused(some_shards: Shards) -> None:
    total = len(some_shards)
    Streams(some_shards, (total - 1) // 4, 4)
    with pytest.raises(UserError, match=rf"{total} tokens are fewer than a step's 4 streams of data\.length={total}"):
        Streams(some_shards, total, 4)
    with pytest.raises(UserError, match=r"data\.length=0"):
        Streams(some_shards, 0, 4)
