"""Objectives that learn from rows: sequence to sequence, and contrastive."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import CASES, model, objective, prepared, row_texts, seeds, tokenizer, vocabulary

from yuwen.data.buckets import Rows
from yuwen.data.framing import Frame
from yuwen.errors import UserError
from yuwen.nn import Padding
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives.contrastive import ContrastiveConfig, ContrastiveObjective
from yuwen.objectives.seq2seq import Seq2SeqConfig, Seq2SeqObjective

KNOWN = vocabulary()
NONE = np.random.default_rng(0)
BOTH = ("source", "target")


@given(seeds, st.integers(1, 6), st.integers(1, 20), st.integers(4, 24))
def test_a_row_is_a_framed_source_and_an_ended_target(seed: int, rows: int, longest: int, length: int) -> None:
    samples = replace(row_texts(seed, ("source", "target"), rows, longest), length=length)
    held = Seq2SeqObjective(Seq2SeqConfig(), KNOWN).prepare(samples, NONE).tensors
    assert held["source"].shape[1] <= length and held["targets"].shape[1] <= length
    for row in range(rows):
        source, target = (samples.fields[name][row].tolist() for name in ("source", "target"))
        read = held["source"][row][held["keep"][row]].tolist()
        assert read == [KNOWN.cls, *source[: length - 2], KNOWN.sep]
        written = [id for id in held["targets"][row].tolist() if id != IGNORE]
        assert written == [*target, KNOWN.end][:length]


def test_a_compiled_block_meets_few_shapes() -> None:
    rng, shapes, tokens = np.random.default_rng(0), set(), 0
    for _ in range(400):
        lengths = rng.integers(1, rng.integers(2, 250, (2, 1)), (2, 3))
        fields = {name: [KNOWN.ordinary[:1].repeat(n) for n in lengths[side]] for side, name in enumerate(BOTH)}
        batch = Seq2SeqObjective(Seq2SeqConfig(), KNOWN).prepare(Rows(fields, None, None, np.arange(3), 256), NONE)
        shapes.add((batch.tensors["source"].shape[1], batch.tensors["targets"].shape[1]))
        tokens += batch.tokens == int(batch.tensors["keep"].sum()) + batch.counts["seq2seq"]
    assert 14 < len(shapes) <= 22 and tokens == 400  # seven widths, either side a quarter of it, and the least for both


@torch.no_grad()
@pytest.mark.parametrize("case", ["seq2seq", "contrastive-pairs"])
def test_rows_without_padding_bring_a_mask_too_and_cost_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, kind, asked = model(case), objective(case), []
    fields = {name: [KNOWN.ordinary[n : n + 5] for n in range(3)] for name in CASES[case][-1]}
    table = Padding.table
    monkeypatch.setattr(Padding, "table", lambda *given: asked.append(given) or table(*given))
    costs = []
    for length, width in ((7, 7), (16, 8)):
        batch = kind.prepare(Rows(fields, None, None, np.arange(3), length), NONE)
        assert batch.tensors["keep"].shape[1] == width and bool(batch.tensors["keep"].all()) == (width == 7)
        before = len(asked)
        costs.append(float(kind.loss(network, batch, {})[CASES[case][0]].sum))
        assert len(asked) > before
    assert costs[0] == pytest.approx(costs[1], rel=1e-5)


def test_rows_without_a_target_are_refused() -> None:
    with pytest.raises(UserError, match="data.fields"):
        Seq2SeqObjective(Seq2SeqConfig(), KNOWN).prepare(row_texts(0, ("text",)), NONE)


def contrastive(**values: Any) -> ContrastiveObjective:
    return ContrastiveObjective(ContrastiveConfig(**values), Frame.of(tokenizer(), "both"))


@torch.no_grad()
@pytest.mark.parametrize("names", [("anchor", "positive"), ("anchor", "positive", "negative")])
def test_info_nce_by_hand(names: tuple[str, ...]) -> None:
    network, kind = model("contrastive-pairs"), contrastive(temperature=0.1)
    samples = row_texts(1, names, rows=5)
    batch = kind.prepare(samples, NONE)
    vectors = {}
    for name in names:
        for row, ids in enumerate(samples.fields[name]):
            alone = torch.tensor([[KNOWN.cls, *ids.tolist(), KNOWN.sep]])  # unpadded, one at a time
            mean = network(alone)[0].mean(0)
            vectors[name, row] = mean / mean.norm()
    expected = 0.0
    for row in range(5):
        scores = {
            key: math.exp(float(vectors["anchor", row] @ vectors[key]) / 0.1) for key in vectors if key[0] != "anchor"
        }
        expected -= math.log(scores["positive", row] / sum(scores.values()))
    term = kind.loss(network, batch, {})["contrastive"]
    assert float(term.sum) == pytest.approx(expected, rel=1e-4)
    assert (term.count, batch.counts) == (5, {"contrastive": 5})


@torch.no_grad()
def test_a_text_alone_is_compared_with_itself_under_other_dropout() -> None:
    network, batch = model("contrastive-text").train(), prepared("contrastive-text")
    torch.manual_seed(0)
    one = float(objective("contrastive-text").loss(network, batch, {})["contrastive"].sum)
    torch.manual_seed(1)
    assert one != float(objective("contrastive-text").loss(network, batch, {})["contrastive"].sum)
    network.eval()  # without dropout both readings are one vector: only the others can cost anything
    vectors = objective("contrastive-text").vectors(network, batch.tensors["ids"], batch.tensors["keep"])
    scores = vectors @ vectors.T / 0.05
    expected = (scores.logsumexp(1) - scores.diagonal()).sum()
    assert float(objective("contrastive-text").loss(network, batch, {})["contrastive"].sum) == pytest.approx(
        float(expected)
    )


def test_a_model_without_dropout_has_nothing_to_learn_from_texts_alone() -> None:
    network = model("contrastive-pairs").train()
    with pytest.raises(UserError, match="model.dropout=0.1"):
        objective("contrastive-text").loss(network, prepared("contrastive-text"), {})


def test_columns_that_make_no_pairs_are_named() -> None:
    with pytest.raises(UserError, match="which has text, pair"):
        contrastive().prepare(row_texts(0, ("text", "pair")), NONE)


@torch.no_grad()
def test_negatives_of_other_processes_count() -> None:
    """Two halves that are given each other's vectors cost what the whole does."""
    network, names = model("contrastive-pairs").train(), ("anchor", "positive", "negative")  # it has no dropout
    samples = row_texts(2, names, rows=6)
    halves = [
        replace(samples, fields={name: samples.fields[name][part] for name in names}, positions=samples.positions[part])
        for part in (slice(0, 3), slice(3, 6))
    ]
    whole = float(contrastive().loss(network, contrastive().prepare(samples, NONE), {})["contrastive"].sum)
    batches = [contrastive().prepare(half, NONE) for half in halves]
    parts = [contrastive().vectors(network, batch.tensors["ids"], batch.tensors["keep"]) for batch in batches]
    total = 0.0
    for rank, batch in enumerate(batches):
        kind, turn = contrastive(), iter((3, 6))

        def gathered(vectors: torch.Tensor, rank: int = rank, turn: Any = turn) -> tuple[torch.Tensor, int]:
            start = next(turn)
            both = torch.cat([part[start : start + 3] for part in parts])
            torch.testing.assert_close(both[3 * rank : 3 * rank + 3], vectors)
            return both, 3 * rank

        kind.gather = gathered
        total += float(kind.loss(network, batch, {})["contrastive"].sum)
    assert total == pytest.approx(whole, rel=1e-4)
