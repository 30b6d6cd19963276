"""Every mask against the sentence that defines it, cell by cell, for whole sequences and for the newest queries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.nn import Causal, Documents, Everything, Explicit, Mask, Padding, Prefix, Window

CPU = torch.device("cpu")
Rule = Callable[[int, int, int], bool]  # (row of the batch, query slot, key slot) -> may it look?


@st.composite
def masks(draw: st.DrawFn, length: int, batch: int) -> tuple[Mask, Rule]:
    """A mask and the rule it stands for, one or two of them combined."""
    kind = draw(
        st.sampled_from(["causal", "everything", "window", "padding", "documents", "prefix", "explicit", "both"])
    )
    if kind == "causal":
        return Causal(), lambda b, t, s: s <= t
    if kind == "everything":
        return Everything(), lambda b, t, s: True
    if kind == "window":
        width = draw(st.integers(1, length + 1))
        return Window(width), lambda b, t, s: t - s < width
    if kind == "prefix":
        lengths = draw(st.lists(st.integers(0, length), min_size=batch, max_size=batch))
        return Prefix(torch.tensor(lengths)), lambda b, t, s: s < lengths[b] or s <= t
    if kind == "both":
        (one, first), (other, second) = draw(masks(length, batch)), draw(masks(length, batch))
        return one & other, lambda b, t, s: first(b, t, s) and second(b, t, s)
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    if kind == "padding":
        keep = torch.rand(batch, length, generator=generator) < 0.7
        return Padding(keep), lambda b, t, s: bool(keep[b, s])
    if kind == "documents":
        document = torch.randint(0, 3, (batch, length), generator=generator).sort(dim=1).values
        return Documents(document), lambda b, t, s: bool(document[b, t] == document[b, s])
    allowed = torch.rand(batch, length, length, generator=generator) < 0.5
    return Explicit(allowed), lambda b, t, s: bool(allowed[b, t, s])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mask_is_its_rule(data: st.DataObject) -> None:
    length, batch = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 3))
    queries = data.draw(st.integers(1, length))
    mask, rule = data.draw(masks(length, batch))
    causal, table, _ = mask.resolve(queries, length, CPU)
    if causal:
        assert queries == length, "a kernel's causal flag speaks of whole sequences only"
        table = torch.ones(length, length).tril().bool()[None, None]
    table = torch.ones(1, 1, queries, length, dtype=torch.bool) if table is None else table
    table = table.expand(batch, 1, queries, length)
    offset = length - queries
    expected = [[[rule(b, offset + t, s) for s in range(length)] for t in range(queries)] for b in range(batch)]
    assert table[:, 0].tolist() == expected


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 9), (1, 1)])
def test_causal_needs_no_table_where_a_kernel_knows_it(queries: int, keys: int) -> None:
    assert Causal().resolve(queries, keys, CPU).table is None
    assert Everything().resolve(queries, keys, CPU) == (False, None, None)


def test_masks_combine_in_any_order() -> None:
    keep, document = torch.tensor([[False, True, True, True]]), torch.tensor([[0, 0, 1, 1]])
    one = (Causal() & Padding(keep) & Documents(document)).resolve(4, 4, CPU).table
    other = (Documents(document) & (Padding(keep) & Causal())).resolve(4, 4, CPU).table
    assert one is not None and other is not None and torch.equal(one, other)
    assert one[0, 0].int().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
