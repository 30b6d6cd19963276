"""The strips operator: what its backward pass says is the derivative of what its forward pass did."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from yuwen.nn.dropout import drop_scale
from yuwen.nn.strips import causal_attention

SHAPES = [(2, 2, 5), (4, 2, 70), (4, 1, 130)]  # heads, kv_heads, length: one strip, two, three


def drawn(heads: int, kv_heads: int, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    shapes = [(2, heads, length, 4), (2, kv_heads, length, 4), (2, kv_heads, length, 4)]
    q, k, v = (torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize(("heads", "kv_heads", "length"), SHAPES)
def test_the_gradient_is_the_derivative(heads: int, kv_heads: int, length: int, rate: float) -> None:
    def seeded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(0)  # the same weights dropped at each call
        return causal_attention(q, k, v, rate)

    inputs = drawn(heads, kv_heads, length, torch.float64)
    assert torch.autograd.gradcheck(seeded, inputs, fast_mode=True, check_undefined_grad=False)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_compiled_graphs_meet_the_same_function(rate: float) -> None:
    q, k, v = drawn(2, 2, 130, torch.float64)
    rows = (q.reshape(4, 1, 130, 4) / 2, k.reshape(4, 130, 4), v.reshape(4, 130, 4))
    torch.manual_seed(0)
    eager = causal_attention(q, k, v, rate)
    torch.manual_seed(0)
    scale = drop_scale(rate) if rate else 1.0
    operator, _, _ = torch.ops.yuwen.causal_strips(rows[0], rows[1], rows[2] * scale, 64, rate)
    torch.testing.assert_close(operator.view_as(eager), eager)
    upstream = torch.randn_like(eager)
    expected = torch.autograd.grad(eager, (q, k, v), upstream)
    torch.testing.assert_close(torch.autograd.grad(operator.view_as(eager), (q, k, v), upstream), expected)


@pytest.mark.parametrize("rate", [0.0, 0.25])
@pytest.mark.parametrize(("heads", "kv_heads", "length"), SHAPES)
def test_what_the_compiler_is_told_is_true(heads: int, kv_heads: int, length: int, rate: float) -> None:
    q, k, v = (t.detach() for t in drawn(heads, kv_heads, length, torch.float32))
    rows = q.reshape(2 * kv_heads, heads // kv_heads, length, 4)
    arguments = (rows, k.reshape(-1, length, 4), v.reshape(-1, length, 4), 64, rate)
    torch.library.opcheck(
        torch.ops.yuwen.causal_strips.default, arguments, test_utils=("test_schema", "test_faketensor")
    )


def test_a_dropped_weight_passes_no_gradient() -> None:
    q, k, v = drawn(1, 1, 1, torch.float64)  # a single weight of 1 for each row: kept and scaled, or dropped
    torch.manual_seed(3)
    out = causal_attention(q, k, v, 0.5)
    (d_v,) = torch.autograd.grad(out.sum(), v)
    kept = (out != 0).all(-1, keepdim=True)
    assert torch.equal(d_v, torch.where(kept, 2.0, 0.0).expand_as(d_v).double())
    torch.testing.assert_close(out, torch.where(kept, 2 * v, 0 * v))
