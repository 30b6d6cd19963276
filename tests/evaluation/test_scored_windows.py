"""Windows: every token that can be scored is scored once, with all the context its window has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from yuwen.evaluation import Tokens, windows


def parts(ids: np.ndarray, cuts: list[int]) -> Iterator[Tokens]:
    for part in np.split(ids, sorted(cuts)):
        yield Tokens(part, part % 5)


@given(st.integers(0, 60), st.integers(2, 20), st.data())
def test_each_token_is_scored_once(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    cuts = data.draw(st.lists(st.integers(0, length), max_size=5))
    ids = np.arange(length, dtype=np.int32)
    scored: list[int] = []
    for number, found in enumerate(windows(parts(ids, cuts), window, stride)):
        begin = number * stride
        assert np.array_equal(found.ids, ids[begin : begin + window])
        assert found.first >= 1
        new = found.ids[found.first :]
        assert len(new) and found.bytes == int((new % 5).sum())
        assert found.first >= window - stride or begin == 0
        scored += new.tolist()
    starts = set(range(0, length, stride)) if stride == window else {0}
    assert scored == [token for token in range(length) if token not in starts]
