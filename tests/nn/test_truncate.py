"""A cache that forgets its end goes on as one that never saw it, or says that it cannot."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from yuwen.nn import DecoderCache, KeyValueCache
from yuwen.nn.cache import WindowCache


def positions(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count, dtype=torch.float32).view(1, 1, count, 1)


@given(st.lists(st.tuples(st.integers(1, 700), st.floats(0, 1)), min_size=1, max_size=8), st.sampled_from([1, 5, 300]))
def test_truncated_then_appended(steps: list[tuple[int, float]], width: int) -> None:
    for cache in (KeyValueCache(), WindowCache(width)):
        window = width if isinstance(cache, WindowCache) else 10**9
        for count, share in steps:
            before = cache.length
            held, _ = cache.append(positions(before, count), positions(before, count))
            seen = range(max(0, before - window + 1), before + count)
            assert held.flatten().tolist() == list(seen) and cache.length == before + count
            length = int(share * cache.length)
            if cache.truncate(length):
                assert cache.length == length
            else:
                assert isinstance(cache, WindowCache) and cache.length == before + count


def test_nothing_can_be_remembered_that_was_not_seen() -> None:
    for cache in (KeyValueCache(), WindowCache(4)):
        assert not cache.truncate(1) and cache.truncate(0)


def test_all_layers_or_none_is_told() -> None:
    cache = DecoderCache(2, {1: 2})
    for layer in cache.layers:
        for place in range(0, 2000, 100):
            layer.append(positions(place, 100), positions(place, 100))
    assert cache.truncate(1999) and [layer.length for layer in cache.layers] == [1999, 1999]
    assert not cache.truncate(3)
