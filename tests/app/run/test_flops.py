"""Operations per token, against what the shapes say: 6 for each weight and position, 12 for each pair that attends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from yuwen.app.run.flops import flops_per_token
from yuwen.data import Sample
from yuwen.models import build, parse_config
from yuwen.objectives import Batch, CausalObjective

V, W, F, T, B = 40, 16, 24, 12, 2
MATRICES = 4 * W * W + 2 * W * F  # of a layer: attention's four, and a plain feed-forward


def model_of(family: str, **values: Any) -> Any:
    shape = {"vocabulary": V, "layers": 3, "width": W, "heads": 4, "ffn": F, "context": 32, **values}
    kept = {k: v for k, v in shape.items() if k in type(parse_config(family, {"vocabulary": V})).model_fields}
    return build(parse_config(family, kept), torch.Generator().manual_seed(0))


def causal(model: Any) -> float:
    objective = CausalObjective()
    ids = np.random.default_rng(0).integers(0, V, (B, T + 1))
    sample = Sample(ids, np.zeros(ids.shape, np.uint8), np.arange(B))
    return flops_per_token(model, objective, objective.prepare(sample, np.random.default_rng(0)))


class Reading:
    """An objective that reads some positions and asks for some words."""

    def __init__(self, read: Any) -> None:
        self.read = read

    def loss(self, model: Any, batch: Batch, state: dict[str, Any]) -> None:
        self.read(model, state)


def reading(model: Any, read: Any, tokens: int = B * T) -> float:
    return flops_per_token(model, Reading(read), Batch({}, {}, tokens))  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [T, 300])  # few positions and many take different routes through the products
def test_a_decoder_by_the_usual_formula(length: int) -> None:
    model = model_of("gpt2", context=512)
    expected = 6 * (3 * MATRICES + V * W) + 12 * 3 * W * length
    ids = torch.zeros(1, length, dtype=torch.long)
    assert reading(model, lambda m, _: m.output(m(ids)), length) == expected
    if length == T:
        assert causal(model) == expected  # by the chunked loss too, whose gradients are not counted twice


def test_grouped_queries_and_a_gated_feedforward() -> None:
    model = model_of("llama", kv_heads=2)
    layer = 2 * W * W + 2 * W * (W // 2) + 3 * W * F
    assert causal(model) == 6 * (3 * layer + V * W) + 12 * 3 * W * T


def test_a_shared_layer_counts_each_time_it_is_applied() -> None:
    ids = torch.zeros(B, T, dtype=torch.long)
    E = 8
    one, many = (model_of("albert", layers=n, embedding_width=E, pooler=False, sentence_order=False) for n in (1, 5))
    assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in many.parameters())
    for model, layers in ((one, 1), (many, 5)):
        assert reading(model, lambda m, _: m(ids)) == 6 * (E * W + layers * MATRICES) + 12 * layers * W * T


def test_a_head_counts_where_it_is_asked() -> None:
    model = model_of("bert", pooler=False, next_sentence=False)
    ids, hidden = torch.zeros(B, T, dtype=torch.long), torch.zeros(B, T, dtype=torch.bool)
    hidden[:, :2] = True
    body, head = 6 * 3 * MATRICES + 12 * 3 * W * T, 6 * (W * W + W * V)
    assert reading(model, lambda m, _: m.output(m.unmask(ids, hidden)[None])) == pytest.approx(body + head * 2 / T)


def test_an_encoder_decoder_by_what_each_half_reads() -> None:
    model = model_of("bart", encoder_layers=2)
    S, U = 20, 7
    source, target = torch.zeros(B, S, dtype=torch.long), torch.zeros(B, U, dtype=torch.long)
    encoder = 2 * (6 * MATRICES * S + 12 * W * S * S)
    own = 6 * MATRICES * U + 12 * W * U * U
    across = 6 * (2 * W * W * U + 2 * W * W * S) + 12 * W * U * S
    head = 6 * W * V * U
    found = reading(model, lambda m, _: m.output(m(source, target)), tokens=B)
    assert found == encoder + 3 * (own + across) + head


def test_recurrences() -> None:
    for family, gates in (("rnn", 1), ("lstm", 4)):
        model = model_of(family, layers=2)
        assert causal(model) == 6 * (2 * gates * 2 * W * W + V * W)


def test_what_is_carried_is_read_when_it_is_counted() -> None:
    """The first batch has nothing to look back at; a run's typical one has."""
    model = model_of("xlnet", memory=T)
    ids = torch.zeros(B, T, dtype=torch.long)

    def read(model: Any, state: dict[str, Any]) -> None:
        model(ids, memory=state.setdefault("memory", model.new_memory()))

    assert reading(model, read) > reading(model, lambda m, _: m(ids))
