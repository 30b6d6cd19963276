"""Attention against its equation, written out slowly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from yuwen.nn import (
    Attention,
    Causal,
    CrossAttention,
    Documents,
    Everything,
    KeyValueCache,
    Mask,
    Padding,
    Prefix,
    RMSNorm,
    Rotary,
    ScaledDotProduct,
    Window,
)
from yuwen.nn.mask import Allowed

CPU = torch.device("cpu")
LENGTHS = [1, 2, 3, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300, 511]
HEADS = [(4, 4), (4, 2), (4, 1), (6, 3), (1, 1)]


def by_the_equation(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(K)) V with every key and value repeated for the query heads that share it."""
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
    scores = (q.double() @ k.double().transpose(-1, -2)) / math.sqrt(q.shape[-1])
    return scores.masked_fill(~table, -torch.inf).softmax(-1).nan_to_num() @ v.double()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
@pytest.mark.parametrize("length", LENGTHS)
def test_causal_attention_and_its_gradients(length: int, heads: int, kv_heads: int) -> None:
    q, k, v = drawn(2, heads, length, 8), drawn(2, kv_heads, length, 8, seed=1), drawn(2, kv_heads, length, 8, seed=2)
    for tensor in (q, k, v):
        tensor.requires_grad_()
    table = torch.ones(length, length).tril().bool()
    ours = ScaledDotProduct()(q, k, v, Allowed(True, None))
    upstream = drawn(2, heads, length, 8, seed=3)
    gradients = torch.autograd.grad(ours, (q, k, v), upstream)
    expected = by_the_equation(q, k, v, table)
    torch.testing.assert_close(ours.double(), expected, atol=2e-6, rtol=1e-5)
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, (q, k, v), upstream.double()), strict=True):
        torch.testing.assert_close(gradient, reference, atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("length", [1023, 1024, 1025, 1500])
def test_where_one_route_ends_and_the_other_begins(length: int) -> None:
    q, k, v = drawn(1, 2, length, 8), drawn(1, 1, length, 8, seed=1), drawn(1, 1, length, 8, seed=2)
    ours = ScaledDotProduct()(q, k, v, Causal().resolve(length, length, CPU))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(ours, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("length", [64, 100, 257])
def test_bf16_stays_near_fp32(length: int) -> None:
    q, k, v = drawn(2, 4, length, 16), drawn(2, 2, length, 16, seed=1), drawn(2, 2, length, 16, seed=2)
    allowed = Allowed(True, None)
    exact = ScaledDotProduct()(q, k, v, allowed)
    rough = ScaledDotProduct()(q.bfloat16(), k.bfloat16(), v.bfloat16(), allowed)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.03, rtol=0.03)


KEEP = torch.tensor([[True] * 7, [False, False, True, True, True, True, True]])
MASKS: dict[str, Mask] = {
    "everything": Everything(),
    "causal": Causal(),
    "padding": Causal() & Padding(KEEP),
    "documents": Causal() & Documents(torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 2]])),
    "window": Causal() & Window(3),
    "prefix": Prefix(torch.tensor([2, 5])),
}


@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("queries", [7, 3, 1])
def test_masked_attention(name: str, queries: int, heads: int, kv_heads: int) -> None:
    q, k, v = drawn(2, heads, queries, 8), drawn(2, kv_heads, 7, 8, seed=1), drawn(2, kv_heads, 7, 8, seed=2)
    slots = torch.arange(7)
    table = MASKS[name].table(slots[7 - queries :], slots)
    ours = ScaledDotProduct()(q, k, v, MASKS[name].resolve(queries, 7, CPU))
    torch.testing.assert_close(ours.double(), by_the_equation(q, k, v, table), atol=2e-6, rtol=1e-5)


def test_a_query_that_may_look_nowhere_is_not_nan() -> None:
    ours = ScaledDotProduct()(
        drawn(2, 2, 7, 8), drawn(2, 2, 7, 8), drawn(2, 2, 7, 8), MASKS["padding"].resolve(7, 7, CPU)
    )
    assert ours.isfinite().all()


@pytest.mark.parametrize(("length", "kv_heads"), [(40, 4), (130, 2)])
def test_dropout_changes_no_mean(length: int, kv_heads: int) -> None:
    torch.manual_seed(0)
    q, k, v = drawn(1, 4, length, 8), drawn(1, kv_heads, length, 8, seed=1), drawn(1, kv_heads, length, 8, seed=2)
    allowed, score = Allowed(True, None), ScaledDotProduct(dropout=0.3)
    with torch.no_grad():
        exact = score.eval()(q, k, v, allowed)
        runs = torch.stack([score.train()(q, k, v, allowed) for _ in range(600)])
    assert runs.var(0).mean() > 1e-3
    standard_error = runs.std(0) / len(runs) ** 0.5
    assert ((runs.mean(0) - exact).abs() < 6 * standard_error + 1e-6).all()


def test_dropout_rests_in_evaluation() -> None:
    q = drawn(1, 2, 20, 8)
    with_dropout = ScaledDotProduct(dropout=0.9).eval()(q, q, q, Allowed(True, None))
    assert torch.equal(with_dropout, ScaledDotProduct()(q, q, q, Allowed(True, None)))


def test_the_module_is_its_picture() -> None:
    """Projections, QK-norm, rotation, grouped scores, output: each step by hand."""
    torch.manual_seed(0)
    attention = Attention(
        24, 4, kv_heads=2, head_width=8, bias=True, output_bias=True, query_norm=RMSNorm(8), key_norm=RMSNorm(8)
    )
    x, rotary = drawn(2, 9, 24), Rotary(8)
    rotation = rotary(torch.arange(9)[None], torch.float32)
    ours = attention(x, Causal().resolve(9, 9, CPU), rotation)

    def split(projected: Tensor, heads: int) -> Tensor:
        return projected.view(2, 9, heads, 8).transpose(1, 2)

    def turned(x: Tensor) -> Tensor:
        pairs = torch.complex(x[..., :4], x[..., 4:]).to(torch.complex128)
        angles = torch.arange(9)[:, None] * 10_000 ** (-torch.arange(4) / 4)
        pairs = pairs * torch.polar(torch.ones_like(angles, dtype=torch.float64), angles.double())
        return torch.cat((pairs.real, pairs.imag), -1).float()

    q = turned(F.rms_norm(split(attention.query(x), 4), (8,), attention.query_norm.weight, 1e-6))
    k = turned(F.rms_norm(split(attention.key(x), 2), (8,), attention.key_norm.weight, 1e-6))
    mixed = by_the_equation(q, k, split(attention.value(x), 2), torch.ones(9, 9).tril().bool()).float()
    expected = attention.output(mixed.transpose(1, 2).reshape(2, 9, 32))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_memory_is_looked_at_instead() -> None:
    torch.manual_seed(0)
    attention, x, memory = CrossAttention(16, 4), drawn(2, 3, 16), drawn(2, 5, 16)
    everything = Everything().resolve(3, 5, CPU)
    ours = attention(x, memory, everything)
    assert ours.shape == (2, 3, 16)
    shuffled = attention(x, memory[:, [3, 1, 4, 0, 2]], everything)
    torch.testing.assert_close(ours, shuffled)  # without positions, memory is a set
    assert not torch.allclose(ours, attention(x, memory + 1, everything))


@pytest.mark.parametrize("sizes", [[1] * 9, [9], [4, 1, 4], [1, 8], [8, 1]])
def test_a_cache_changes_nothing(sizes: list[int]) -> None:
    torch.manual_seed(0)
    attention, x, cache = Attention(16, 4, kv_heads=2), drawn(2, 9, 16), KeyValueCache()
    whole = attention(x, Causal().resolve(9, 9, CPU))
    with torch.no_grad():
        parts, past = [], 0
        for size in sizes:
            allowed = Causal().resolve(size, past + size, CPU)
            parts.append(attention(x[:, past : past + size], allowed, cache=cache))
            past += size
    assert cache.length == 9
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 40, 70])
def test_scores_may_be_scaled_otherwise(length: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, length, 6), torch.randn(2, 2, length, 6), torch.randn(2, 2, length, 6)
    score, allowed = ScaledDotProduct(scale=0.11), Causal().resolve(length, length, CPU)
    expected = ScaledDotProduct()(q * 0.11 * 6**0.5, k, v, allowed)
    torch.testing.assert_close(score(q, k, v, allowed), expected)
    table = Allowed(False, torch.ones(length, length, dtype=torch.bool).tril()[None, None])
    torch.testing.assert_close(score(q, k, v, table), expected)
