"""Span corruption: source and target together are the text, and are divided as published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from objective_cases import seeds, settings, some_windows, vocabulary, windows

from yuwen.data import Sample
from yuwen.errors import UserError
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import Batch
from yuwen.objectives.span import SpanConfig, SpanObjective

KNOWN = vocabulary()
SENTINELS = set(KNOWN.sentinels)


def prepare(samples: Sample, seed: int = 0, **values: Any) -> Batch:
    return SpanObjective(settings("span", **values), KNOWN).prepare(samples, np.random.default_rng(seed))


def sides(batch: Batch, row: int) -> tuple[list[int], list[int]]:
    """A row's source without its frame, and its target without its end."""
    held = batch.tensors
    source = held["source"][row][held["keep"][row]].tolist()
    target = held["targets"][row][held["targets"][row] != IGNORE].tolist()
    assert source[0] == KNOWN.cls and source[-1] == KNOWN.sep and target[-1] == KNOWN.end
    assert (held["source"][row][~held["keep"][row]] == KNOWN.pad).all()
    return source[1:-1], target[:-1]


def spans(target: list[int]) -> dict[int, list[int]]:
    """What a target writes behind each sentinel."""
    found: dict[int, list[int]] = {}
    for id in target:
        if id in SENTINELS:
            assert id not in found
            found[id] = []
        else:
            found[list(found)[-1]].append(id)
    return found


@given(some_windows(), seeds, st.floats(0.05, 0.8), st.floats(1, 6))
def test_source_and_target_together_are_the_text(samples: Sample, seed: int, rate: float, mean: float) -> None:
    assume(rate <= mean / (1 + mean))
    batch = prepare(samples, seed, rate=rate, mean_span=mean)
    assert max(batch.tensors[side].shape[1] for side in ("source", "targets")) <= samples.ids.shape[1] - 1
    for row in range(len(samples.ids)):
        source, target = sides(batch, row)
        written = spans(target)
        assert list(written) == [id for id in source if id in SENTINELS] == list(KNOWN.sentinels[: len(written)])
        whole = [id for part in source for id in (written[part] if part in SENTINELS else [part])]
        text = samples.ids[row, : samples.ids.shape[1] - 3].tolist()
        assert whole == text[: len(whole)]
        if KNOWN.is_ordinary[text].all():
            assert len(whole) == len(text)
        assert KNOWN.is_ordinary[[id for ids in written.values() for id in ids]].all()


@given(seeds)
def test_little_is_left_out_where_special_tokens_cut_spans(seed: int) -> None:
    samples = windows(seed, rows=3, length=202, specials=0.02)
    batch = prepare(samples, seed)
    for row in range(3):
        source, target = sides(batch, row)
        kept = len(source) + len(target) - 2 * len(spans(target))
        assert kept >= 180  # of 200
    assert bool(batch.tensors["keep"].all())  # no source is padded


@given(seeds, st.integers(30, 300))
def test_fifteen_percent_go_in_spans_of_three(seed: int, length: int) -> None:
    batch = prepare(windows(seed, rows=2, length=length + 2, specials=0), seed)
    noise = int(np.rint(0.15 * length))
    for row in range(2):
        written = spans(sides(batch, row)[1])
        assert sum(map(len, written.values())) == noise
        assert len(written) == max(1, int(np.rint(noise / 3)))
        assert all(written.values())
    assert bool(batch.tensors["keep"].all())


def test_every_place_may_go() -> None:
    samples = windows(0, rows=800, length=42, specials=0)
    batch = prepare(samples)
    cut = np.zeros(40)
    for row in range(800):
        source, target = sides(batch, row)
        written, place = spans(target), 0
        for id in source:
            size = len(written.get(id, ()))
            cut[place : place + size] += 1
            place += size or 1
    assert np.abs(cut[3:-3] / 800 - 0.15).max() < 0.06
    assert (cut[[0, -1]] / 800 > 0.03).all()  # the ends too, though only as the first or last token of a span


def test_too_few_sentinels_are_named() -> None:
    few = replace(KNOWN, sentinels=KNOWN.sentinels[:3])
    with pytest.raises(UserError, match=r"cuts 10 spans out of a window and the tokenizer has 3 sentinels"):
        SpanObjective(SpanConfig(), few).prepare(windows(0, length=202), np.random.default_rng(0))
    assert SpanObjective(SpanConfig(), few).prepare(windows(0, length=60), np.random.default_rng(0)).counts["span"]
