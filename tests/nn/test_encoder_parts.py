"""What encoders are made of beside the common parts, each against its equation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from yuwen.nn import (
    Attention,
    CountedPositions,
    Everything,
    FeedForward,
    HeadTransform,
    LayerNorm,
    LearnedPositions,
    Padding,
    Pooler,
    PostNormBlock,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def block(dropout: float = 0.0) -> PostNormBlock:
    return PostNormBlock(
        Attention(8, 2, bias=True, output_bias=True), LayerNorm(8), FeedForward(8, 16), LayerNorm(8), dropout=dropout
    )


def test_a_post_norm_block_is_two_normed_sums() -> None:
    ours, x, allowed = block(), torch.randn(2, 5, 8), Everything().resolve(5, 5, CPU)
    h = F.layer_norm(x + ours.attention(x, allowed), (8,))
    torch.testing.assert_close(ours(x, allowed), F.layer_norm(h + ours.feedforward(h), (8,)))


def test_its_dropout_falls_on_the_branches() -> None:
    ours, x, allowed = block(dropout=0.5), torch.randn(1, 3, 8), Everything().resolve(3, 3, CPU)
    with torch.no_grad():
        exact = ours.eval()(x, allowed)
        ours.train()
        assert not torch.equal(ours(x, allowed), ours(x, allowed))
        torch.nn.init.zeros_(ours.attention.output.weight)
        torch.nn.init.zeros_(ours.feedforward.down.weight)
        for bias in (ours.attention.output.bias, ours.feedforward.down.bias):
            torch.nn.init.zeros_(bias)
        torch.testing.assert_close(ours(x, allowed), F.layer_norm(F.layer_norm(x, (8,)), (8,)))  # the stream stays
    assert not torch.allclose(exact, F.layer_norm(x, (8,)))


def test_padding_is_never_looked_at() -> None:
    ours, keep = block(), torch.tensor([[True, True, False], [True, False, False]])
    x = torch.randn(2, 3, 8)
    one = ours(x, Padding(keep).resolve(3, 3, CPU))
    other = ours(x.masked_fill(~keep[..., None], 7.0), Padding(keep).resolve(3, 3, CPU))
    torch.testing.assert_close(one[keep], other[keep])


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_head_s_transform(activation: str) -> None:
    transform, h = HeadTransform(8, LayerNorm(8), activation=activation), torch.randn(2, 3, 8)
    expected = F.layer_norm(getattr(F, activation)(transform.dense(h)), (8,))
    torch.testing.assert_close(transform(h), expected)
    torch.testing.assert_close(transform(h[0, 1]), expected[0, 1])  # any shape in front


def test_the_pooler_hears_the_first_position_only() -> None:
    pooler, h = Pooler(8), torch.randn(2, 3, 8)
    torch.testing.assert_close(pooler(h), torch.tanh(h[:, 0] @ pooler.dense.weight.T + pooler.dense.bias))


def test_where_tokens_stand() -> None:
    ids = torch.tensor([[0, 9, 2, 1, 1], [1, 1, 0, 9, 2], [9, 1, 9, 9, 9]])
    assert LearnedPositions(6, 4).of(ids).tolist() == [[0, 1, 2, 3, 4]]
    assert CountedPositions(6, 4, padding=1).of(ids).tolist() == [[2, 3, 4, 1, 1], [1, 1, 2, 3, 4], [2, 1, 3, 4, 5]]
    assert len(CountedPositions(6, 4, padding=1).weight) == 8
