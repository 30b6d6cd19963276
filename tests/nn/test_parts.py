"""Norms, feed-forwards, embeddings, blocks: each against its equation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers.activations import ACT2FN
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm, Gemma3TextScaledWordEmbedding
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from yuwen.nn import (
    Attention,
    Causal,
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    OffsetRMSNorm,
    ParallelBlock,
    PreNormBlock,
    RMSNorm,
    SandwichNormBlock,
    ScaledTokenEmbedding,
    TokenEmbedding,
    TokenHead,
)
from yuwen.nn.embedding import look_up
from yuwen.nn.feedforward import ACTIVATIONS


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_rms_norm_rounds_as_llama_does(dtype: torch.dtype, eps: float) -> None:
    ours, theirs = RMSNorm(12, eps).to(dtype), LlamaRMSNorm(12, eps).to(dtype)
    torch.nn.init.normal_(ours.weight)
    theirs.weight = ours.weight
    x = (torch.randn(3, 5, 12) * 3).to(dtype)
    assert ours(x).dtype == dtype
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_its_equation(bias: bool) -> None:
    norm, x = LayerNorm(12, 1e-5, bias=bias), torch.randn(3, 5, 12)
    torch.nn.init.normal_(norm.weight)
    expected = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * norm.weight
    if norm.bias is not None:
        torch.nn.init.normal_(norm.bias)
        expected = expected + norm.bias
    torch.testing.assert_close(norm(x), expected)


def test_a_norm_of_zeros_is_finite() -> None:
    for norm in (RMSNorm(4), LayerNorm(4)):
        assert norm(torch.zeros(1, 4)).isfinite().all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_the_published_ones(name: str) -> None:
    x = torch.linspace(-8, 8, 1001)
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[name](x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_feed_forwards_are_their_equations(bias: bool) -> None:
    x = torch.randn(2, 3, 8)
    plain = FeedForward(8, 20, activation="relu", bias=bias)
    torch.testing.assert_close(plain(x), plain.down(plain.up(x).clamp(min=0)))
    gated = GatedFeedForward(8, 20, bias=bias)
    gate = gated.gate(x)
    torch.testing.assert_close(gated(x), gated.down(gate * torch.sigmoid(gate) * gated.up(x)))
    assert (plain.up.bias is not None) == (gated.gate.bias is not None) == bias


def test_a_tied_head_is_the_embedding() -> None:
    embedding = TokenEmbedding(10, 4)
    head = TokenHead(10, 4, tied_to=embedding)
    torch.nn.init.normal_(embedding.weight)
    assert head.weight is embedding.weight
    ids = torch.tensor([[1, 9]])
    assert torch.equal(embedding(ids), embedding.weight[[1, 9]][None])
    torch.testing.assert_close(head(embedding(ids)), embedding(ids) @ embedding.weight.T)
    assert TokenHead(10, 4).weight is not embedding.weight
    assert TokenHead(10, 4, bias=True).bias is not None


def test_a_block_is_two_residual_lines() -> None:
    block = PreNormBlock(RMSNorm(8), Attention(8, 2), RMSNorm(8), GatedFeedForward(8, 16))
    x, allowed = torch.randn(2, 5, 8), Causal().resolve(5, 5, torch.device("cpu"))
    h = x + block.attention(block.attention_norm(x), allowed)
    torch.testing.assert_close(block(x, allowed), h + block.feedforward(block.feedforward_norm(h)))


def test_the_branches_of_a_parallel_block_read_the_same_norm() -> None:
    block = ParallelBlock(LayerNorm(8, bias=False), Attention(8, 2, kv_heads=1), GatedFeedForward(8, 16))
    x, allowed = torch.randn(2, 5, 8), Causal().resolve(5, 5, torch.device("cpu"))
    n = block.norm(x)
    torch.testing.assert_close(block(x, allowed), x + block.attention(n, allowed) + block.feedforward(n))


def test_dropout_falls_on_the_branches_and_keeps_the_mean() -> None:
    block = PreNormBlock(RMSNorm(8), Attention(8, 2), RMSNorm(8), GatedFeedForward(8, 16), dropout=0.5)
    torch.nn.init.zeros_(block.feedforward.down.weight)  # one random branch: the mean is then the undropped value
    x, allowed = torch.randn(1, 3, 8), Causal().resolve(3, 3, torch.device("cpu"))
    with torch.no_grad():
        exact = block.eval()(x, allowed)
        runs = torch.stack([block.train()(x, allowed) for _ in range(2000)])
    torch.testing.assert_close(runs.mean(0), exact, atol=0.06, rtol=0)
    branch = exact - x
    seen = (runs - x) / branch
    assert (torch.isclose(seen, torch.tensor(0.0), atol=1e-3) | torch.isclose(seen, torch.tensor(2.0), atol=1e-2)).all()
    assert F.dropout(x, 0.0, True).equal(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_rms_norm_with_an_offset_is_gemmas(dtype: torch.dtype) -> None:
    ours, theirs = OffsetRMSNorm(24, 1e-3), Gemma3RMSNorm(24, 1e-3)
    assert (ours.weight == 0).all()
    with torch.no_grad():
        ours.weight.normal_()
        theirs.weight.copy_(ours.weight)
    x = (3 * torch.randn(5, 7, 24)).to(dtype)
    assert torch.equal(ours.to(dtype)(x), theirs.to(dtype)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [48, 640])
def test_a_scaled_embedding_is_gemmas(width: int, dtype: torch.dtype) -> None:
    ours = ScaledTokenEmbedding(9, width, rounded=True).to(dtype)
    theirs = Gemma3TextScaledWordEmbedding(9, width, None, width**0.5)  # type: ignore[arg-type]
    with torch.no_grad():
        ours.weight.normal_()
        theirs.weight.copy_(ours.weight)
    ids = torch.tensor([[0, 8, 3]])
    assert torch.equal(ours(ids), theirs.to(dtype)(ids))
    plain = ScaledTokenEmbedding(9, width).to(dtype)  # Marian's and BART's: the factor is no number of the table's type
    plain.load_state_dict(ours.state_dict())
    assert torch.equal(plain(ids), plain.weight[ids] * width**0.5)


def test_a_block_with_norms_around_its_branches_is_its_two_equations() -> None:
    norms = [OffsetRMSNorm(8) for _ in range(4)]
    block = SandwichNormBlock(norms[0], Attention(8, 2), norms[1], norms[2], GatedFeedForward(8, 16), norms[3])
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x, allowed = torch.randn(2, 5, 8), Causal().resolve(5, 5, torch.device("cpu"))
    h = x + norms[1](block.attention(norms[0](x), allowed))
    torch.testing.assert_close(block(x, allowed), h + norms[3](block.feedforward(norms[2](h))))
    with torch.no_grad():  # however large a branch's weights, what it adds keeps its size
        before = (block(x, allowed) - x).norm()
        block.feedforward.down.weight *= 1000
        block.attention.output.weight *= 1000
    assert (block(x, allowed) - x).norm() < 3 * before


def test_a_row_that_is_read_often_gathers_its_whole_gradient() -> None:
    table_VD = torch.ones(3, 4, dtype=torch.bfloat16, requires_grad=True)
    ids_BT = torch.zeros(5, 1000, dtype=torch.long)
    ids_BT[0, 0] = 2
    look_up(ids_BT, table_VD).sum().backward()
    assert table_VD.grad is not None
    assert table_VD.grad[:, 0].tolist() == [4992.0, 0.0, 1.0]  # 4999 as bf16 writes it; adding ones there ends at 256


def test_relu_is_pytorchs_and_so_is_its_slope() -> None:
    x = torch.tensor([-2.0, -0.0, 0.0, 1e-30, 3.0, float("inf")], requires_grad=True)
    upstream = torch.arange(1.0, 7.0)
    expected = F.relu(x)
    (slope,) = torch.autograd.grad(expected, x, upstream)
    out = ACTIVATIONS["relu"](x)
    assert out.equal(expected) and torch.autograd.grad(out, x, upstream)[0].equal(slope)
    with torch.no_grad():
        assert ACTIVATIONS["relu"](x).equal(expected)
