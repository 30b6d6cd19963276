"""Random choices row by row: exact amounts, nothing that may not be chosen, every choice as likely."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from yuwen.objectives.noise import between, choose, composition, framed, packed, pick, place, poisson


def rows_of(rows: int, lengths: np.ndarray, spans_B: np.ndarray) -> list[np.ndarray]:
    return np.split(lengths, np.cumsum(spans_B)[: rows - 1])


@st.composite
def noise(draw: st.DrawFn) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """(generator, ordinary [B, T], tokens to take out of each row)."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    ordinary = rng.random(shape) < draw(st.sampled_from([1.0, 0.9, 0.5, 0.0]))
    return rng, ordinary, np.rint(draw(st.floats(0, 1)) * ordinary.sum(1)).astype(np.int64)


@given(noise())
def test_as_many_as_asked_are_chosen(drawn: tuple) -> None:
    rng, eligible, counts = drawn
    chosen = choose(rng, eligible, counts)
    assert (chosen.sum(1) == counts).all() and not (chosen & ~eligible).any()


def test_every_choice_is_as_likely() -> None:
    eligible = np.tile([True, False, True, True, True], (20_000, 1))
    chosen = choose(np.random.default_rng(0), eligible, np.full(20_000, 2))
    pairs, counts = np.unique(chosen, axis=0, return_counts=True)
    assert len(pairs) == 6 and np.abs(counts / 20_000 - 1 / 6).max() < 0.015


def test_one_is_picked_by_the_first_mask_that_allows_any() -> None:
    first = np.array([[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    second = np.array([[1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
    last = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
    places = [pick(np.random.default_rng(seed), first, second, last) for seed in range(50)]
    assert {row[0] for row in places} == {1, 2}
    assert {(row[1], row[2]) for row in places} == {(3, 0)}


@given(noise(), st.floats(1, 6))
def test_a_composition_adds_up(drawn: tuple, mean: float) -> None:
    rng, ordinary, totals = drawn
    parts = np.where(totals > 0, np.maximum(1, np.rint(totals / mean).astype(np.int64)), 0)
    lengths = rows_of(len(totals), composition(rng, totals, parts), parts)
    assert [len(row) for row in lengths] == parts.tolist()
    assert [row.sum() for row in lengths] == totals.tolist()
    assert all((row >= 1).all() for row in lengths)


def test_every_composition_is_as_likely() -> None:
    lengths = composition(np.random.default_rng(0), np.full(20_000, 5), np.full(20_000, 3)).reshape(-1, 3)
    found, counts = np.unique(lengths, axis=0, return_counts=True)
    assert len(found) == 6 and np.abs(counts / 20_000 - 1 / 6).max() < 0.015


@given(noise(), st.floats(0.1, 6))
def test_poisson_lengths_reach_their_total(drawn: tuple, mean: float) -> None:
    rng, ordinary, totals = drawn
    most = np.minimum(totals, ordinary.sum(1) - totals + 1)
    lengths, spans = poisson(rng, totals, mean, most)
    assert [row.sum() for row in rows_of(len(totals), lengths, spans)] == totals.tolist()
    assert (spans <= most).all()


def test_poisson_lengths_are_drawn_from_poisson() -> None:
    totals = np.full(200, 300)
    lengths, _ = poisson(np.random.default_rng(0), totals, 3.0, totals)
    shares = np.bincount(lengths, minlength=9)[:9] / len(lengths)
    expected = [np.exp(-3) * 3**k / np.prod(np.arange(1, k + 1)) for k in range(9)]
    assert np.abs(shares - expected).max() < 0.01


@given(noise(), st.booleans())
def test_spans_take_what_they_should_and_keep_apart(drawn: tuple, empty: bool) -> None:
    rng, ordinary, totals = drawn
    most = np.minimum(totals, ordinary.sum(1) - totals + 1)
    if empty:
        lengths, spans = poisson(rng, totals, 3.0, most)
    else:
        spans = np.minimum(np.maximum(1, totals // 3), most)
        lengths = composition(rng, totals, spans)
    taken, marks = place(rng, ordinary, lengths, spans)
    assert (taken.sum(1) == totals).all() and not (taken & ~ordinary).any()
    for row, expected in enumerate(rows_of(len(totals), lengths, spans)):
        # what was taken among the ordinary tokens alone: as many runs as spans of one token or more, in their order
        inside = np.flatnonzero(np.diff(taken[row][ordinary[row]], prepend=False, append=False).astype(int))
        assert (inside[1::2] - inside[::2]).tolist() == expected[expected > 0].tolist()
        begins = taken[row] & ~np.concatenate([[False], taken[row][:-1]])
        assert (marks[row, :-1] >= begins).all()
        assert marks[row].sum() == begins.sum() + (expected == 0).sum()


def test_what_is_packed_comes_first() -> None:
    values = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    keep = np.array([[0, 1, 0, 1], [1, 1, 1, 1]], bool)
    assert packed(values, keep, 3, -9).tolist() == [[2, 4, -9], [5, 6, 7]]


def test_marks_and_tokens_take_turns() -> None:
    assert between(np.array([[10, 11, 12]]), np.array([[1, 2]])).tolist() == [[10, 1, 11, 2, 12]]


def test_a_frame_is_as_much_as_there_is() -> None:
    ids = np.array([[1, 2]])
    assert framed(0, ids, 9).tolist() == [[0, 1, 2, 9]]
    assert framed(None, ids, 9).tolist() == [[1, 2, 9]]
    assert framed(0, ids, None).tolist() == [[0, 1, 2]]
