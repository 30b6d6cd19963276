from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen.data import Shards, Windows
from yuwen.data.windows import mix, permute
from yuwen.errors import UserError


@given(st.integers(1, 700), st.integers(0, 2**64 - 1))
def test_feistel_is_a_permutation(size: int, key: int) -> None:
    out = permute(np.arange(size), size, np.full(1, key, np.uint64))
    assert np.array_equal(np.sort(out), np.arange(size))


def test_feistel_shuffles_and_differs_by_key() -> None:
    index = np.arange(10_000)
    one, two = (permute(index, 10_000, np.full(1, key, np.uint64)).astype(int) for key in (1, 2))
    assert abs(np.corrcoef(index, one)[0, 1]) < 0.05 and abs(np.corrcoef(one, two)[0, 1]) < 0.05
    assert (np.diff(one) == 1).mean() < 0.01


def test_permute_takes_a_key_per_index() -> None:
    keys = mix(np.arange(50, dtype=np.uint64))
    together = permute(np.arange(50), 50, keys)
    assert together.tolist() == [int(permute(np.array([i]), 50, keys[i : i + 1])[0]) for i in range(50)]


@given(length=st.integers(1, 80), seed=st.integers(0, 2**70), epoch=st.integers(0, 5))
def test_an_epoch_covers_every_token_once_but_for_one_overlap(
    some_shards: Shards, length: int, seed: int, epoch: int
) -> None:
    windows, total = Windows(some_shards, length, seed), len(some_shards)
    positions = epoch * windows.per_epoch + np.arange(windows.per_epoch)
    inputs = (windows.starts(positions)[:, None] + np.arange(length)) % total
    times = np.bincount(inputs.ravel(), minlength=total)
    assert times.min() == 1 and times.max() <= 2 and (times == 2).sum() == windows.per_epoch * length - total
    batch = windows.samples(positions)
    assert np.array_equal(batch.ids[:, :-1], some_shards.tokens[inputs])
    assert np.array_equal(batch.ids[:, 1:], some_shards.tokens[(inputs + 1) % total])
    assert batch.ids.dtype == np.int64


@given(st.integers(0, 10**9), st.integers(0, 2**63))
def test_a_sample_depends_on_seed_and_position_only(some_shards: Shards, position: int, seed: int) -> None:
    one = Windows(some_shards, 16, seed).samples(np.array([position]))
    two = Windows(some_shards, 16, seed).samples(np.array([3, position, position + 1]))
    assert one.ids.shape == (1, 17) and one.positions.tolist() == [position]
    assert np.array_equal(one.ids[0], two.ids[1]) and np.array_equal(one.flags[0], two.flags[1])


def test_epochs_differ_in_order_and_cut(some_shards: Shards) -> None:
    windows = Windows(some_shards, 16, 1)
    first, second = (windows.starts(epoch * windows.per_epoch + np.arange(windows.per_epoch)) for epoch in (0, 1))
    assert not np.array_equal(first, second)
    assert len(set(first) & set(second)) < windows.per_epoch / 2


def test_documents_are_numbered_from_their_starts(some_shards: Shards) -> None:
    sample = Windows(some_shards, 64, 1).samples(np.array([5, 6]))
    assert np.array_equal(sample.documents[:, 0], sample.document_starts[:, 0].astype(int))
    assert sample.document_starts.any()
    assert np.array_equal(np.diff(sample.documents) == 1, sample.document_starts[:, 1:])


def test_a_corpus_shorter_than_a_window_is_refused(some_shards: Shards) -> None:
    total = len(some_shards)
    assert Windows(some_shards, total - 1, 0).per_epoch == 2
    with pytest.raises(UserError, match=rf"{total} tokens.*{total + 1}"):
        Windows(some_shards, total, 0)
    with pytest.raises(UserError, match=r"data\.length=0"):
        Windows(some_shards, 0, 0)
