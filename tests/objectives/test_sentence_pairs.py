"""Next sentence and sentence order: how two pieces are laid out, and what is asked of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from objective_cases import model, objective, prepared, seeds, settings, some_windows, vocabulary, windows
from test_masked import chosen, restored

from yuwen.data import Sample
from yuwen.data.shards import DOCUMENT, SENTENCE
from yuwen.errors import UserError
from yuwen.objectives import Batch
from yuwen.objectives.next_sentence import NextSentenceObjective
from yuwen.objectives.sentence_order import SentenceOrderObjective

KNOWN = vocabulary()


def prepare(kind: Any, samples: Sample, seed: int = 0) -> Batch:
    return kind(settings(kind.name), KNOWN).prepare(samples, np.random.default_rng(seed))


def pieces(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """The two pieces of every row, the hidden words put back; the layout is checked on the way."""
    found = []
    for ids, segments in zip(restored(batch), batch.tensors["segments"].numpy(), strict=True):
        split = int((segments == 0).sum())
        assert (np.sort(segments) == segments).all() and set(segments) == {0, 1}
        assert ids[0] == KNOWN.cls and ids[split - 1] == KNOWN.sep and ids[-1] == KNOWN.sep
        found.append((ids[1 : split - 1].tolist(), ids[split:-1].tolist()))
        assert all(found[-1])
    return found


def may_begin(samples: Sample, row: int, place: int, width: int) -> bool:
    """A sentence of the same document, or the next best thing where a row has none."""
    flags = samples.flags[row, 1:width]
    within = (flags & DOCUMENT) == 0
    sentences = within & ((flags & SENTENCE) != 0)
    places = np.arange(1, width)
    middle = sentences & (places >= width // 4) & (places < width - width // 4)
    allowed = next(mask for mask in (middle, sentences, within, places > 0) if mask.any())
    return bool(allowed[place - 1])


@given(some_windows(least=2), seeds)
def test_the_second_piece_follows_or_is_from_another_row(samples: Sample, seed: int) -> None:
    width = samples.ids.shape[1] - 4
    batch = prepare(NextSentenceObjective, samples, seed)
    for row, (first, second) in enumerate(pieces(batch)):
        text = samples.ids[row, :width].tolist()
        assert len(first) + len(second) == width
        assert first == text[: len(first)] and may_begin(samples, row, len(first), width)
        if batch.tensors["answers"][row]:
            others = [samples.ids[other, :width].tolist() for other in range(len(samples.ids)) if other != row]
            size = len(second)
            assert any(second == other[at : at + size] for other in others for at in range(width - size + 1))
        else:
            assert second == text[len(first) :]


@given(some_windows(), seeds)
def test_both_pieces_are_neighbours_in_order_or_swapped(samples: Sample, seed: int) -> None:
    width = samples.ids.shape[1] - 4
    batch = prepare(SentenceOrderObjective, samples, seed)
    for row, (first, second) in enumerate(pieces(batch)):
        before, after = (second, first) if batch.tensors["answers"][row] else (first, second)
        assert before + after == samples.ids[row, :width].tolist()
        assert may_begin(samples, row, len(before), width)


@pytest.mark.parametrize("kind", [NextSentenceObjective, SentenceOrderObjective])
def test_half_of_the_answers_are_yes(kind: Any) -> None:
    batch = prepare(kind, windows(0, rows=1000, length=16))
    assert abs(float(batch.tensors["answers"].float().mean()) - 0.5) < 0.08
    assert batch.counts[kind.name] == 1000


@pytest.mark.parametrize("kind", [NextSentenceObjective, SentenceOrderObjective])
def test_words_are_masked_at_the_rate(kind: Any) -> None:
    batch = prepare(kind, windows(0, rows=20, length=203, specials=0))
    assert (chosen(batch).sum(1) == 30).all()  # of 200 tokens
    assert batch.tensors["places"].shape == batch.tensors["targets"].shape


def test_a_sentence_from_elsewhere_begins_where_one_begins() -> None:
    samples = windows(1, rows=50, length=200)
    batch = prepare(NextSentenceObjective, samples)
    begins = 0
    for row, (_, second) in enumerate(pieces(batch)):
        for other in range(50):
            for at in np.flatnonzero(samples.flags[other] & SENTENCE):
                begins += (
                    bool(batch.tensors["answers"][row]) and samples.ids[other, at : at + len(second)].tolist() == second
                )
    assert begins > 0.8 * int(batch.tensors["answers"].sum())


def test_one_row_is_refused() -> None:
    with pytest.raises(UserError, match="at least two windows"):
        prepare(NextSentenceObjective, windows(0, rows=1))


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(UserError, match="data.length=4"):
        prepare(SentenceOrderObjective, windows(0, length=4))


@pytest.mark.parametrize("case", ["next_sentence", "sentence_order"])
def test_the_answer_is_scored_by_its_head(case: str) -> None:
    network, batch = model(case), prepared(case)
    term = objective(case).loss(network, batch, {})[case]
    h = network(batch.tensors["ids"], segments_BT=batch.tensors["segments"])
    scores = getattr(network, case)(h)
    expected = F.cross_entropy(scores, batch.tensors["answers"], reduction="sum")
    torch.testing.assert_close(term.sum, expected)
    assert term.count == 4
