"""Causal attention of whole sequences as plain batched products, a strip of query rows at a time.

Rows start … end-1 read keys 0 … end-1 only, so strips skip most of the triangle that the mask would throw away:

        keys ->
      ┌──┐                    scores  = q_strip K^T + bias          bias: -inf above the diagonal
      └──┘──┐                 weights = softmax(scores)             the one thing kept for the backward pass
      └─────┘──┐              out     = weights V
      └────────┘──┐
      └───────────┘

On a CPU this takes half the time of PyTorch's flash kernel, backward included, and it can drop weights out. The strips
are one operator, so that a compiled graph around it sees whole q, k, v and their gradients and nothing of the pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from yuwen.nn.dropout import drop_mask, drop_scale

_ROWS = 64  # the fewest queries scored together


def causal_attention(
    q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, rate: float = 0.0, scale: float | None = None
) -> Tensor:
    """softmax(scale Q K^T + causal) V, its weights dropped out with probability `rate`; `scale` is 1 / sqrt(K).

    q [B, H, T, K], k and v [B, G, T, K], H a multiple of G -> [B, H, T, K].
    """
    B, H, T, K = q_BHTK.shape
    G = k_BGTK.shape[1]  # H / G query heads read the same keys: they are laid behind each other as rows
    q_NSTK = (q_BHTK * (1 / math.sqrt(K) if scale is None else scale)).reshape(B * G, H // G, T, K)
    k_NTK, v_NTK = k_BGTK.reshape(B * G, T, K), v_BGTK.reshape(B * G, T, K)
    if rate:
        v_NTK = v_NTK * drop_scale(rate)
    rows = max(_ROWS, T // 4)
    if torch.compiler.is_compiling():
        out_NSTK, _, _ = torch.ops.yuwen.causal_strips(q_NSTK, k_NTK, v_NTK, rows, rate)
    else:  # an operator would make PyTorch import its compiler first: two seconds before a first answer or step
        out_NSTK = _Strips.apply(q_NSTK, k_NTK, v_NTK, rows, rate)
    return out_NSTK.view(B, H, T, K)


def _strips(N: int, S: int, T: int, rows: int) -> Iterator[tuple[int, int, int, tuple[int, int, int]]]:
    """(start, end, offset of its weights in one flat tensor, their shape) of each strip."""
    offset = 0
    for start in range(0, T, rows):
        end = min(start + rows, T)
        yield start, end, offset, (N, S * (end - start), end)
        offset += N * S * (end - start) * end


def _elements(N: int, S: int, T: int, rows: int) -> int:
    return sum(math.prod(shape) for *_, shape in _strips(N, S, T, rows))


def _forward(q_NSTK: Tensor, k_NTK: Tensor, v_NTK: Tensor, rows: int, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """(out [N, S, T, K], the strips' weights laid behind each other, 1 where dropout keeps them or nothing)."""
    N, S, T, K = q_NSTK.shape
    out_NSTK = q_NSTK.new_empty(N, S, T, K)
    flat = q_NSTK.new_empty(_elements(N, S, T, rows))
    kept = drop_mask(flat, rate) if rate else flat.new_empty(0, dtype=torch.uint8)
    later = torch.full((rows, rows), float("-inf"), dtype=q_NSTK.dtype, device=q_NSTK.device).triu(1)
    for start, end, offset, shape in _strips(N, S, T, rows):
        n = end - start
        scores = torch.bmm(_rows(q_NSTK, start, end), _first(k_NTK, end).transpose(1, 2))
        scores.view(N, S, n, end)[..., start:] += later[:n, :n]
        weights = _strip(flat, offset, shape)
        torch.softmax(scores, -1, out=weights)
        if rate:
            weights = weights * _strip(kept, offset, shape).to(weights.dtype)
        out_NSTK[:, :, start:end] = torch.bmm(weights, v_NTK[:, :end]).view(N, S, n, K)
    return out_NSTK, flat, kept


def _backward(
    d_NSTK: Tensor, q_NSTK: Tensor, k_NTK: Tensor, v_NTK: Tensor, flat: Tensor, kept: Tensor, rows: int, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v from that of the output."""
    N, S, T, _ = q_NSTK.shape
    d_q, d_k, d_v = torch.empty_like(q_NSTK), torch.empty_like(k_NTK), torch.empty_like(v_NTK)
    for start, end, offset, shape in reversed(
        list(_strips(N, S, T, rows))
    ):  # the last strip fills d_k and d_v, others add
        d_out, weights = _rows(d_NSTK, start, end), _strip(flat, offset, shape)
        d_weights = torch.bmm(d_out, _first(v_NTK, end).transpose(1, 2))
        used = weights
        if rate:
            mask = _strip(kept, offset, shape).to(weights.dtype)
            used, d_weights = weights * mask, d_weights * mask
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_q[:, :, start:end] = torch.bmm(d_scores, k_NTK[:, :end]).view(N, S, end - start, -1)
        for total, left, right in ((d_k, d_scores, _rows(q_NSTK, start, end)), (d_v, used, d_out)):
            if end == T:
                torch.bmm(left.transpose(1, 2), right, out=total)
            else:
                total[:, :end] += torch.bmm(left.transpose(1, 2), right)
    return d_q, d_k, d_v


def _rows(x_NSTK: Tensor, start: int, end: int) -> Tensor:
    N, S, _, K = x_NSTK.shape
    return x_NSTK[:, :, start:end].reshape(N, S * (end - start), K)


def _first(x_NTK: Tensor, end: int) -> Tensor:
    return x_NTK[:, :end].contiguous()  # a transposed slice would be copied element by element


def _strip(flat: Tensor, offset: int, shape: tuple[int, int, int]) -> Tensor:
    return flat[offset : offset + math.prod(shape)].view(shape)


class _Strips(torch.autograd.Function):
    """The strips where nothing is compiled."""

    @staticmethod
    def forward(ctx: Any, q_NSTK: Tensor, k_NTK: Tensor, v_NTK: Tensor, rows: int, rate: float) -> Tensor:
        out_NSTK, flat, kept = _forward(q_NSTK, k_NTK, v_NTK, rows, rate)
        ctx.rows, ctx.rate = rows, rate
        ctx.save_for_backward(q_NSTK, k_NTK, v_NTK, flat, kept)
        return out_NSTK

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        q_NSTK, k_NTK, v_NTK, flat, kept = ctx.saved_tensors
        return (*_backward(upstream[0], q_NSTK, k_NTK, v_NTK, flat, kept, ctx.rows, ctx.rate), None, None)


# The strips within a compiled graph, which would otherwise take them apart.
_operator = torch.library.custom_op(
    "yuwen::causal_strips", _forward, mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
_backward_operator = torch.library.custom_op("yuwen::causal_strips_backward", _backward, mutates_args=())


@_operator.register_fake
def _(q_NSTK: Tensor, k_NTK: Tensor, v_NTK: Tensor, rows: int, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    N, S, T, K = q_NSTK.shape
    elements = _elements(N, S, T, rows)
    kept = q_NSTK.new_empty(elements if rate else 0, dtype=torch.uint8)
    return q_NSTK.new_empty(N, S, T, K), q_NSTK.new_empty(elements), kept


@_backward_operator.register_fake
def _(
    d_NSTK: Tensor, q_NSTK: Tensor, k_NTK: Tensor, v_NTK: Tensor, flat: Tensor, kept: Tensor, rows: int, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q_NSTK), torch.empty_like(k_NTK), torch.empty_like(v_NTK)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int, float], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q_NSTK, k_NTK, v_NTK, ctx.rows, ctx.rate = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q_NSTK, k_NTK, v_NTK, *output[1:])


def _differentiate(ctx: Any, d_NSTK: Tensor, *_: Tensor | None) -> tuple[Tensor, Tensor, Tensor, None, None]:
    return (*torch.ops.yuwen.causal_strips_backward(d_NSTK, *ctx.saved_tensors, ctx.rows, ctx.rate), None, None)


_operator.register_autograd(_differentiate, setup_context=_keep)
