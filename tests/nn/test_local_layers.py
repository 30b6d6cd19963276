"""A layer that looks back a window: its mask, and a cache that holds no more than the window."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.nn import Causal, DecoderCache, Documents, KeyValueCache, Padding, WindowCache

CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_what_can_still_be_seen_comes_back(width: int, sizes: list[int]) -> None:
    cache, generator = WindowCache(width), torch.Generator().manual_seed(0)
    given_keys, given_values = [], []
    for size in sizes:
        given_keys.append(torch.randn(2, 1, size, 3, generator=generator))
        given_values.append(torch.randn(2, 1, size, 3, generator=generator))
        keys, values = cache.append(given_keys[-1], given_values[-1])
        assert torch.equal(keys, torch.cat(given_keys, 2)[:, :, -(size + width - 1) :])
        assert torch.equal(values, torch.cat(given_values, 2)[:, :, -(size + width - 1) :])
    assert cache.length == sum(sizes)


def test_a_window_stays_small_and_moves_rarely() -> None:
    cache, token, moved, place = WindowCache(512), torch.zeros(1, 1, 1, 4), 0, 0
    for _ in range(5000):
        keys, _ = cache.append(token, token)
        moved += keys.untyped_storage().data_ptr() != place
        place = keys.untyped_storage().data_ptr()
        assert keys.untyped_storage().nbytes() <= 4 * 4 * 1280
    assert keys.shape[2] == 512 and moved <= 5000 // 500 + 2


def test_a_decoder_has_both_kinds_and_chooses_rows_in_each() -> None:
    cache = DecoderCache(3, {0: 2, 2: 4})
    assert [type(layer) for layer in cache.layers] == [WindowCache, KeyValueCache, WindowCache]
    one = torch.arange(3.0).view(3, 1, 1, 1)
    for _ in range(5):
        for layer in cache.layers:
            layer.append(one, one)
    twin = cache.branch(torch.tensor([2, 0]))
    held = [layer.append(one[:2] + 7, one[:2])[0][:, 0, :, 0].tolist() for layer in twin.layers]
    assert held == [[[2, 7], [0, 8]], [[2] * 5 + [7], [0] * 5 + [8]], [[2] * 3 + [7], [0] * 3 + [8]]]
    assert (cache.length, twin.length) == (5, 6)
    assert cache.layers[0].append(one, one)[0][:, 0, :, 0].tolist() == [[0, 0], [1, 1], [2, 2]]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["none", "padding", "documents"]))
def test_a_mask_within_a_window(width: int, queries: int, more: int, kind: str) -> None:
    """Cell by cell against the sentence, over the keys that a cache of that width returns."""
    keys = queries + more - 1
    keep = torch.arange(keys)[None] >= torch.tensor([0, min(3, keys - 1)])[:, None]
    documents = (torch.arange(keys) // 4).expand(2, -1)
    rules = {
        "none": (Causal(), lambda b, t, s: True),
        "padding": (Causal() & Padding(keep), lambda b, t, s: bool(keep[b, s])),
        "documents": (Documents(documents) & Causal(), lambda b, t, s: bool(documents[b, t] == documents[b, s])),
    }
    mask, rule = rules[kind]
    causal, table, _ = mask.resolve_within(width, queries, keys, CPU)
    first = 0 if keys <= width else max(0, keys - queries - width + 1)
    if causal:
        assert queries == keys <= width
        table = torch.ones(keys, keys).tril().bool()[None, None]
    table = torch.ones(1, 1, queries, keys - first, dtype=torch.bool) if table is None else table
    expected = [
        [[s <= t and t - s < width and rule(b, t, s) for s in range(first, keys)] for t in range(keys - queries, keys)]
        for b in range(2)
    ]
    assert table.expand(2, 1, queries, keys - first)[:, 0].tolist() == expected


def test_short_texts_and_new_tokens_need_no_table() -> None:
    assert Causal().resolve_within(8, 8, 8, CPU) == (True, None, None)
    assert Causal().resolve_within(8, 1, 500, CPU) == (False, None, None)
