"""Batches of rows: each row once an epoch, in an order that depends on seed and position alone, of like length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen.data import Loader, Records, RowShards, in_order
from yuwen.errors import UserError

LENGTHS = st.lists(st.integers(0, 400), min_size=1, max_size=300)


def of_lengths(lengths: list[int]) -> Any:
    """Shards as far as the order needs them."""

    class Shards(SimpleNamespace):
        def __len__(self) -> int:
            return len(lengths)

    return Shards(lengths=np.array(lengths), fields=("text",), labels=np.arange(len(lengths)), scores=None,
                  text=lambda row, place, most: np.full(min(lengths[row], most), row))  # fmt: skip


@given(LENGTHS, st.integers(1, 40), st.integers(0, 2**70), st.integers(0, 5))
def test_every_row_once_an_epoch(lengths: list[int], group: int, seed: int, epoch: int) -> None:
    records = Records(of_lengths(lengths), 256, group, seed)
    count = records.per_epoch
    order = records.order(np.arange(epoch * count, (epoch + 1) * count))
    assert sorted(order.tolist()) == list(range(count))


@given(LENGTHS, st.integers(1, 40), st.integers(0, 2**70), st.integers(0, 5))
def test_a_whole_batch_holds_no_row_twice(lengths: list[int], group: int, seed: int, epoch: int) -> None:
    if group > len(lengths):
        with pytest.raises(UserError, match="less than one batch"):
            Records(of_lengths(lengths), 256, group, seed, whole=True)
        return
    records = Records(of_lengths(lengths), 256, group, seed, whole=True)
    count = records.per_epoch
    assert len(lengths) - group < count <= len(lengths) and count % group == 0
    order = records.order(np.arange(epoch * count, (epoch + 1) * count))
    assert len(set(order.tolist())) == count  # so no batch meets a row again, within an epoch or at its end
    assert set(order.tolist()) <= set(range(len(lengths)))


@given(LENGTHS, st.integers(1, 40))
def test_measuring_leaves_no_row_alone(lengths: list[int], size: int) -> None:
    batches = [rows.positions.tolist() for rows in in_order(of_lengths(lengths), 256, size)]
    assert sorted(sum(batches, [])) == list(range(len(lengths)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= (3 if size == 2 else size) and max(sizes) - min(sizes) <= 1
    assert min(size, len(lengths)) == 1 or min(sizes) > 1


def test_what_is_left_of_whole_batches_are_other_rows_each_time() -> None:
    records = Records(of_lengths([1] * 29), 256, 10, 1, whole=True)
    met = [set(records.order(np.arange(epoch * 20, (epoch + 1) * 20)).tolist()) for epoch in range(8)]
    assert set.union(*met) == set(range(29))


@given(LENGTHS, st.integers(1, 40), st.data())
def test_a_row_depends_on_seed_and_position_alone(lengths: list[int], group: int, data: st.DataObject) -> None:
    shards = of_lengths(lengths)
    positions = data.draw(st.lists(st.integers(0, 5 * len(lengths)), min_size=1, max_size=20))
    together = Records(shards, 256, group, 3).order(np.array(positions))
    alone = [int(Records(shards, 256, group, 3).order(np.array([position]))[0]) for position in positions]
    assert together.tolist() == alone


@given(LENGTHS, st.integers(1, 5), st.integers(1, 4), st.integers(0, 30))
def test_ranks_share_what_one_reads(lengths: list[int], share: int, world: int, steps: int) -> None:
    records = Records(of_lengths(lengths), 256, share * world, 1)
    alone = Loader(records, share * world, position=steps * share * world)
    ranks = [Loader(records, share * world, rank, world, steps * share * world) for rank in range(world)]
    for _ in range(3):
        whole, parts = alone.next_batch(), [loader.next_batch() for loader in ranks]
        assert np.concatenate([part.labels for part in parts]).tolist() == whole.labels.tolist()
        assert np.concatenate([part.positions for part in parts]).tolist() == whole.positions.tolist()
    resumed = Loader(records, share * world)
    resumed.load_state_dict(alone.state_dict())
    assert resumed.next_batch().labels.tolist() == alone.next_batch().labels.tolist()


def test_epochs_seeds_and_batches_differ() -> None:
    shards = of_lengths(np.random.default_rng(0).integers(1, 300, 2000).tolist())
    records = Records(shards, 256, 16, 1)
    first, second = records.order(np.arange(2000)), records.order(np.arange(2000, 4000))
    assert (first == second).mean() < 0.05
    assert (first == Records(shards, 256, 16, 2).order(np.arange(2000))).mean() < 0.05
    members = [
        {frozenset(epoch[start : start + 16].tolist()) for start in range(0, 2000, 16)} for epoch in (first, second)
    ]
    assert not members[0] & members[1]  # the same rows do not meet again


def test_a_batch_holds_rows_of_like_length_in_no_order() -> None:
    lengths = np.random.default_rng(0).geometric(0.02, 4000)
    order = Records(of_lengths(lengths.tolist()), 1000, 16, 1).order(np.arange(4000))
    batches = lengths[order].reshape(-1, 16)
    drawn = lengths.reshape(-1, 16)
    padding = 1 - lengths.sum() / (16 * batches.max(1).sum())
    assert padding < 0.1 < 0.5 < 1 - lengths.sum() / (16 * drawn.max(1).sum())
    means = batches.mean(1)
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.2  # the short ones do not come first


def test_in_order_gives_every_row_once() -> None:
    lengths = [5, 1, 9, 3, 3, 700]
    batches = list(in_order(of_lengths(lengths), 256, 4))
    assert [batch.labels.tolist() for batch in batches if batch.labels is not None] == [[1, 3, 4], [0, 2, 5]]
    assert [len(ids) for ids in batches[1].fields["text"]] == [5, 9, 256]  # cut to the length


def test_rows_of_real_shards(tokenizer: Any, tmp_path: Path, make_rows: Callable[..., RowShards]) -> None:
    shards = make_rows([("ab", "cd", "1"), ("语文", "x", "0"), ("a", "b", "1")])
    rows = Records(shards, 3, 2, 0).samples(np.arange(6))
    assert set(rows.fields) == {"text", "pair"} and rows.length == 3
    for place, row in enumerate(Records(shards, 3, 2, 0).order(np.arange(6))):
        assert rows.fields["pair"][place].tolist() == shards.text(int(row), 1, 3).tolist()
        assert rows.labels is not None and rows.labels[place] == shards.labels[row]  # type: ignore[index]


@pytest.fixture
def make_rows(tokenizer: Any, tmp_path: Path) -> Callable[..., RowShards]:
    from data_corpora import memory

    from yuwen.data import prepare_rows
    from yuwen.text import Document, FieldsConfig

    def make(rows: list[tuple[str, str, str]]) -> RowShards:
        documents = [Document(a, "m", n, fields={"b": b, "l": c}) for n, (a, b, c) in enumerate(rows, 1)]
        return prepare_rows(memory(documents), FieldsConfig(text="a", pair="b", label="l"), tokenizer, tmp_path)

    return make
