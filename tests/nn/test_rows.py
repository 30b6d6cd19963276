"""The rows operator: the sum that PyTorch's kernel makes, and its derivative."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from yuwen.nn import Padding, ScaledDotProduct
from yuwen.nn.dropout import drop_scale
from yuwen.nn.kernels import attend
from yuwen.nn.mask import Allowed
from yuwen.nn.rows import whole_attention
from yuwen.nn.strips import causal_attention

SHAPES = [(2, 2, 5, 5), (4, 2, 7, 3), (4, 1, 3, 70)]  # heads, kv_heads, queries, keys


def drawn(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    heads, kv_heads, T, S = shape
    generator = torch.Generator().manual_seed(S)
    sizes = [(2, heads, T, 4), (2, kv_heads, S, 4), (2, kv_heads, S, 4)]
    q, k, v = (torch.randn(size, generator=generator, dtype=dtype).requires_grad_() for size in sizes)
    return q, k, v


def kept(S: int) -> Tensor:
    return torch.arange(S)[None] < torch.tensor([[S], [S - S // 2]])


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_attention(shape: tuple[int, int, int, int], scale: float | None, padded: bool) -> None:
    q, k, v = drawn(shape, torch.float64)
    keep = kept(shape[3]) if padded else None
    table = None if keep is None else keep[:, None, None]
    expected = F.scaled_dot_product_attention(q, k, v, table, scale=scale, enable_gqa=True)
    torch.testing.assert_close(whole_attention(q, k, v, keep, scale=scale), expected)


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_the_derivative(shape: tuple[int, int, int, int], padded: bool, rate: float) -> None:
    def seeded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(0)  # the same weights dropped at each call
        return whole_attention(q, k, v, kept(shape[3]) if padded else None, rate)

    inputs = drawn(shape, torch.float64)
    assert torch.autograd.gradcheck(seeded, inputs, fast_mode=True, check_undefined_grad=False)


def test_a_row_with_nothing_to_see_is_no_nan() -> None:
    q, k, v = drawn(SHAPES[0], torch.bfloat16)
    out = whole_attention(q, k, v, torch.tensor([[True] * 5, [False] * 5]))
    out.float().sum().backward()
    assert out.isfinite().all() and all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_compiled_graphs_meet_the_same_function(rate: float) -> None:
    q, k, v = drawn((2, 2, 9, 13), torch.float64)
    keep = kept(13)
    compiled = torch.compile(whole_attention, backend="aot_eager", fullgraph=True, dynamic=False)
    found = []
    for function in (whole_attention, compiled):
        torch.manual_seed(0)
        out = function(q, k, v, keep, rate)
        found.append((out, *torch.autograd.grad(out.square().sum(), (q, k, v))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rate", [0.0, 0.25])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("viewed", [False, True])  # heads of one text lie between each other, and stay there
def test_what_the_compiler_is_told_is_true(viewed: bool, padded: bool, rate: float) -> None:
    q, k, v = (t.detach().flatten(0, 1) for t in drawn((2, 2, 9, 13), torch.float32))
    if viewed:
        q, k, v = (t.transpose(0, 1).contiguous().transpose(0, 1) for t in (q, k, v))
    bias = torch.zeros(2, 1, 13) if padded else torch.empty(0)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.yuwen.whole_rows.default, (q, k, v, bias, rate), test_utils=checks)
    out, weights, kept_NTS = torch.ops.yuwen.whole_rows(q, k, v, bias, rate)
    back = (torch.ones_like(out), q, k, v, weights, kept_NTS)
    torch.library.opcheck(torch.ops.yuwen.whole_rows_backward.default, back, test_utils=checks)


def test_a_dropped_weight_passes_no_gradient() -> None:
    q, k, v = drawn((1, 1, 1, 1), torch.float64)  # a single weight of 1: kept and scaled, or dropped
    torch.manual_seed(3)
    out = whole_attention(q, k, v, None, 0.5)
    (d_v,) = torch.autograd.grad(out.sum(), v)
    stays = (out != 0).all(-1, keepdim=True)
    torch.testing.assert_close(d_v, stays.double().expand_as(d_v) * drop_scale(0.5))


@pytest.mark.parametrize("padded", [False, True])
def test_bfloat16_attention_of_both_sides_goes_through_rows(padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "yuwen.nn.kernels.whole_attention", lambda *x: calls.append(len(x)) or whole_attention(*x)
    )  # fmt: skip
    q, k, v = drawn((4, 2, 9, 9), torch.bfloat16)
    allowed = Padding(kept(9)).resolve(9, 9, q.device) if padded else Allowed(False, None)
    rough = ScaledDotProduct()(q, k, v, allowed)
    exact = ScaledDotProduct()(q.float(), k.float(), v.float(), allowed)
    assert len(calls) == 1
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("causal", [False, True])
def test_what_is_dropped_out_goes_in_pieces_however_long(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's flash kernel drops nothing, and what it has instead lays all scores out several times."""
    calls: list[str] = []
    for function in (whole_attention, causal_attention):
        noted = lambda *x, own=function: calls.append(own.__name__) or own(*x)  # noqa: E731
        monkeypatch.setattr(f"yuwen.nn.kernels.{function.__name__}", noted)
    monkeypatch.setattr("yuwen.nn.kernels._LONGEST", 8)
    q, k, v = drawn((4, 2, 9, 9), torch.bfloat16)
    for rate, met in ((0.0, []), (0.5, ["causal_attention" if causal else "whole_attention"])):
        assert attend(q, k, v, Allowed(causal, None), rate=rate).isfinite().all()
        assert calls == met
