from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen.data import Loader, Shards, Windows
from yuwen.errors import UserError


@given(share=st.integers(1, 5), world=st.integers(1, 4), steps=st.integers(1, 6), position=st.integers(0, 10**6))
def test_ranks_together_read_what_one_process_reads(
    some_shards: Shards, share: int, world: int, steps: int, position: int
) -> None:
    windows = Windows(some_shards, 12, 7)
    alone = Loader(windows, share * world, position=position)
    ranks = [Loader(windows, share * world, rank, world, position) for rank in range(world)]
    for _ in range(steps):
        parts, whole = [loader.next_batch() for loader in ranks], alone.next_batch()
        assert np.array_equal(np.concatenate([part.ids for part in parts]), whole.ids)
        assert np.array_equal(np.concatenate([part.positions for part in parts]), whole.positions)


@given(before=st.integers(0, 40), batch=st.integers(1, 7))
def test_resumes_after_any_step(some_shards: Shards, before: int, batch: int) -> None:
    windows = Windows(some_shards, 12, 7)
    first = Loader(windows, batch)
    for _ in range(before):
        first.next_batch()
    second = Loader(windows, batch)
    second.load_state_dict(first.state_dict())
    assert first.state_dict() == {"position": before * batch}
    assert np.array_equal(first.next_batch().ids, second.next_batch().ids)


def test_a_batch_that_cannot_be_shared_is_refused(some_shards: Shards) -> None:
    with pytest.raises(UserError, match="3 windows cannot be shared by 2 processes"):
        Loader(Windows(some_shards, 12), 3, rank=0, world=2)
