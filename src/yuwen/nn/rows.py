"""Attention of whole rows as plain batched products: what `nn.strips` is to causal attention, for both sides.

    scores  = q K^T (+ bias)          bias: -inf at padding, the same for every query
    weights = softmax(scores)         the one thing kept for the backward pass
    out     = weights V

In bfloat16 on a CPU this takes about half the time of PyTorch's flash kernel, backward included, and a quarter where
weights are dropped out, which that kernel cannot do. In fp32 the two are even. One operator, as in `nn.strips`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from yuwen.nn.dropout import drop_mask, drop_scale


def whole_attention(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    keep_BS: Tensor | None = None,
    rate: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale Q K^T) V over the keys that `keep_BS` (None: all) allows, the weights dropped out at `rate`.

    q [B, H, T, K], k and v [B, G, S, K], H a multiple of G -> [B, H, T, K]; `scale` is 1 / sqrt(K). A row that may see
    nothing at all sees everything alike.
    """
    B, H, T, K = q_BHTK.shape
    G, S = k_BGSK.shape[1:3]  # H / G query heads read the same keys: they are laid behind each other as rows
    q_NTK = (q_BHTK * (1 / math.sqrt(K) if scale is None else scale)).reshape(B * G, H // G * T, K)
    k_NSK, v_NSK = k_BGSK.reshape(B * G, S, K), v_BGSK.reshape(B * G, S, K)
    if rate:
        v_NSK = v_NSK * drop_scale(rate)
    bias_B1S = q_NTK.new_empty(0)
    if keep_BS is not None:
        lowest = torch.finfo(q_NTK.dtype).min  # not -inf: nothing to see must not become nan
        bias_B1S = torch.zeros_like(keep_BS, dtype=q_NTK.dtype).masked_fill(~keep_BS, lowest)[:, None]
    if torch.compiler.is_compiling():
        out_NTK, _, _ = torch.ops.yuwen.whole_rows(q_NTK, k_NSK, v_NSK, bias_B1S, rate)
    else:  # an operator would make PyTorch import its compiler first: two seconds before a first answer or step
        out_NTK = _Rows.apply(q_NTK, k_NSK, v_NSK, bias_B1S, rate)
    return out_NTK.view(B, H, T, K)


def _forward(
    q_NTK: Tensor, k_NSK: Tensor, v_NSK: Tensor, bias_B1S: Tensor, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(out [N, T, K], weights [N, T, S], 1 where dropout keeps them or nothing)."""
    scores_NTS = torch.bmm(q_NTK, k_NSK.transpose(1, 2))
    if bias_B1S.numel():
        scores_NTS.view(len(bias_B1S), -1, scores_NTS.shape[2]).add_(bias_B1S)
    weights_NTS = torch.softmax(scores_NTS, -1)
    if not rate:
        return torch.bmm(weights_NTS, v_NSK), weights_NTS, weights_NTS.new_empty(0, dtype=torch.uint8)
    kept_NTS = drop_mask(weights_NTS, rate)
    return torch.bmm(weights_NTS * kept_NTS.to(weights_NTS.dtype), v_NSK), weights_NTS, kept_NTS


def _backward(
    d_NTK: Tensor, q_NTK: Tensor, k_NSK: Tensor, v_NSK: Tensor, weights_NTS: Tensor, kept_NTS: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v from that of the output."""
    d_NTK = d_NTK.contiguous()
    d_weights, used = torch.bmm(d_NTK, v_NSK.transpose(1, 2)), weights_NTS
    if kept_NTS.numel():
        mask = kept_NTS.to(weights_NTS.dtype)
        used, d_weights = weights_NTS * mask, d_weights * mask
    d_scores = torch._softmax_backward_data(d_weights, weights_NTS, -1, weights_NTS.dtype)
    d_k, d_v = torch.bmm(d_scores.transpose(1, 2), q_NTK), torch.bmm(used.transpose(1, 2), d_NTK)
    return torch.bmm(d_scores, k_NSK), d_k, d_v


class _Rows(torch.autograd.Function):
    """The rows where nothing is compiled."""

    @staticmethod
    def forward(ctx: Any, q_NTK: Tensor, k_NSK: Tensor, v_NSK: Tensor, bias_B1S: Tensor, rate: float) -> Tensor:
        out_NTK, *kept = _forward(q_NTK, k_NSK, v_NSK, bias_B1S, rate)
        ctx.save_for_backward(q_NTK, k_NSK, v_NSK, *kept)
        return out_NTK

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (*_backward(upstream[0], *ctx.saved_tensors), None, None)


# The rows within a compiled graph, which would otherwise take them apart.
_operator = torch.library.custom_op(
    "yuwen::whole_rows", _forward, mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
_backward_operator = torch.library.custom_op("yuwen::whole_rows_backward", _backward, mutates_args=())


@_operator.register_fake
def _(q_NTK: Tensor, k_NSK: Tensor, v_NSK: Tensor, bias_B1S: Tensor, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    N, T, S = *q_NTK.shape[:2], k_NSK.shape[1]
    kept = q_NTK.new_empty((N, T, S) if rate else 0, dtype=torch.uint8)
    return q_NTK.new_empty(q_NTK.shape), q_NTK.new_empty(N, T, S), kept


@_backward_operator.register_fake
def _(
    d_NTK: Tensor, q_NTK: Tensor, k_NSK: Tensor, v_NSK: Tensor, weights_NTS: Tensor, kept_NTS: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return q_NTK.new_empty(q_NTK.shape), k_NSK.new_empty(k_NSK.shape), v_NSK.new_empty(v_NSK.shape)


def _keep(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, float], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:3], *output[1:])


def _differentiate(ctx: Any, d_NTK: Tensor, *_: Tensor | None) -> tuple[Tensor, Tensor, Tensor, None, None]:
    return (*torch.ops.yuwen.whole_rows_backward(d_NTK, *ctx.saved_tensors), None, None)


_operator.register_autograd(_differentiate, setup_context=_keep)
