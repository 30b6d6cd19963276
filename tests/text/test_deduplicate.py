from __future__ import annotations

import tracemalloc
from itertools import compress

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from yuwen.text import Deduplicator, keys

BATCHES = st.lists(st.lists(st.integers(0, 40) | st.integers(0, 2**64 - 1), max_size=30), max_size=12)


@given(BATCHES, st.sampled_from([1, 4, 1 << 22]))
def test_it_says_what_a_set_says(batches: list[list[int]], memory: int) -> None:
    deduplicator, known = Deduplicator(memory), set()
    for batch in batches:
        expected = []
        for key in batch:
            expected.append(key in known)
            known.add(key)
        assert deduplicator.seen(np.array(batch, np.uint64)).tolist() == expected


@given(st.lists(st.text(max_size=3)))
def test_equal_texts_have_equal_keys_and_others_do_not(texts: list[str]) -> None:
    found = keys(texts)
    assert found.dtype == np.uint64 and len(found) == len(texts)
    assert len(set(found.tolist())) == len(set(texts))


@given(st.lists(st.sampled_from(["a", "b", "c", "语"])))
def test_the_first_of_equal_texts_is_kept(texts: list[str]) -> None:
    repeated = Deduplicator().seen(keys(texts))
    assert list(compress(texts, ~repeated)) == list(dict.fromkeys(texts))


def test_a_million_keys_take_little_memory() -> None:
    deduplicator = Deduplicator(memory=1 << 14)
    rng = np.random.default_rng(0)
    stream = rng.integers(0, 1_000_000, 1_000_000, dtype=np.uint64)
    tracemalloc.start()
    repeated = sum(int(deduplicator.seen(stream[i : i + 8192]).sum()) for i in range(0, len(stream), 8192))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert repeated == len(stream) - len(np.unique(stream))
    assert peak < 6 << 20  # the keys alone are 5 MB
