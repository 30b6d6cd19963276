"""The cache holds what was given to it, in order, however it grows."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.nn import DecoderCache, KeyValueCache


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_everything_appended_comes_back(sizes: list[int]) -> None:
    cache, generator = KeyValueCache(), torch.Generator().manual_seed(0)
    given_keys, given_values = [], []
    for size in sizes:
        given_keys.append(torch.randn(2, 1, size, 3, generator=generator))
        given_values.append(torch.randn(2, 1, size, 3, generator=generator))
        keys, values = cache.append(given_keys[-1], given_values[-1])
        assert torch.equal(keys, torch.cat(given_keys, 2))
        assert torch.equal(values, torch.cat(given_values, 2))
    assert cache.length == sum(sizes)


def test_appending_copies_rarely() -> None:
    cache, token, moved, place = KeyValueCache(), torch.zeros(1, 1, 1, 4), 0, None
    for _ in range(5000):
        keys, _ = cache.append(token, token)
        moved += keys.data_ptr() != place
        place = keys.data_ptr()
    assert moved <= 7  # doubling, not a copy a token


def test_rows_are_chosen_in_every_layer() -> None:
    cache = DecoderCache(2)
    assert cache.length == 0
    cache.select(torch.tensor([0]))  # nothing yet: nothing to choose
    for layer in cache.layers:
        layer.append(torch.arange(3.0).view(3, 1, 1, 1), torch.arange(3.0).view(3, 1, 1, 1))
    cache.select(torch.tensor([2, 0, 0]))
    for layer in cache.layers:
        keys, values = layer.append(torch.full((3, 1, 1, 1), 9.0), torch.full((3, 1, 1, 1), 8.0))
        assert keys[:, 0, :, 0].tolist() == [[2, 9], [0, 9], [0, 9]]
        assert values[:, 0, :, 0].tolist() == [[2, 8], [0, 8], [0, 8]]
    assert cache.length == 2


def test_a_branch_goes_on_alone() -> None:
    cache = DecoderCache(2)
    one = torch.ones(1, 1, 1, 1)
    for layer in cache.layers:
        layer.append(one, one)
    twin = cache.branch(torch.tensor([0, 0]))
    for layer in twin.layers:
        keys, _ = layer.append(torch.tensor([2.0, 3.0]).view(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
        assert keys[:, 0, :, 0].tolist() == [[1, 2], [1, 3]]
    assert (cache.length, twin.length) == (1, 2)
    for layer in cache.layers:  # in the slot that the twin has filled for itself
        keys, _ = layer.append(4 * one, one)
        assert keys[:, 0, :, 0].tolist() == [[1, 4]]
