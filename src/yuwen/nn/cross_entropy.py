"""The loss of a language model, without ever holding all its logits.

    loss = sum_n  -log softmax(h_n W^T + b)[target_n]

The logits of N positions over V ids would be the largest tensor of a training step. Here they exist for `chunk`
positions at a time: their gradient, softmax - onehot, is known as soon as they are, so it is pushed into dh and dW at
once and the chunk is forgotten. Forward and backward together cost three products, as the plain loss does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORE = -100  # a target of this value is not counted


class LinearCrossEntropy(nn.Module):
    """Summed cross-entropy in nats of hidden states under a linear head, chunk by chunk.

    h [N, D], weight [V, D], bias [V] or None, targets [N] (IGNORE is not counted) -> scalar fp32 sum.
    With `smoothing` e the target is (1 - e) onehot + e / V (Szegedy et al. 2016, section 7).
    """

    def __init__(self, *, smoothing: float = 0.0, chunk: int = 1024) -> None:
        super().__init__()
        self.chunk = chunk
        self.softmax = SoftmaxLoss(smoothing)

    def forward(self, h_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # the function below is told what has gradients, not whether anyone wants them
            h_ND, weight_VD = h_ND.detach(), weight_VD.detach()
            bias_V = None if bias_V is None else bias_V.detach()
        return _Chunked.apply(h_ND, weight_VD, bias_V, targets_N, self.softmax, self.chunk)


class SoftmaxLoss(nn.Module):
    """Loss of a chunk of logits, and its gradient. logits [n, V], targets [n] -> scalar fp32 sum, [n, V]."""

    compiles = True  # one pass over the chunk instead of six

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits_nV: Tensor, targets_n: Tensor) -> tuple[Tensor, Tensor]:
        scores_nV = logits_nV.float()
        top_n1 = scores_nV.amax(-1, keepdim=True)
        powers_nV = (scores_nV - top_n1).exp()  # once: the sum and the gradient both come from it
        sum_n1 = powers_nV.sum(-1, keepdim=True)
        log_z_n1 = sum_n1.log() + top_n1
        counted_n1 = (targets_n != IGNORE).unsqueeze(1)
        index_n1 = targets_n.clamp(min=0).unsqueeze(1)
        onehot_nV = torch.arange(scores_nV.shape[1], device=index_n1.device) == index_n1
        loss_n1 = log_z_n1 - scores_nV.gather(1, index_n1)
        gradient_nV = powers_nV / sum_n1 - onehot_nV.float() * (1 - self.smoothing)
        if self.smoothing:
            mean_n1 = log_z_n1 - scores_nV.mean(-1, keepdim=True)
            loss_n1 = (1 - self.smoothing) * loss_n1 + self.smoothing * mean_n1
            gradient_nV = gradient_nV - self.smoothing / scores_nV.shape[1]
        return (loss_n1 * counted_n1).sum(), (gradient_nV * counted_n1).to(logits_nV.dtype)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        softmax: SoftmaxLoss,
        chunk: int,
    ) -> Tensor:
        needs_gradient = any(ctx.needs_input_grad)
        total = torch.zeros((), dtype=torch.float32, device=h_ND.device)
        d_h = torch.empty_like(h_ND) if needs_gradient else None
        d_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_gradient else None
        d_bias = torch.zeros_like(bias_V, dtype=torch.float32) if needs_gradient and bias_V is not None else None
        for start in range(0, len(h_ND), chunk):
            h_nD = h_ND[start : start + chunk]
            loss, gradient_nV = softmax(F.linear(h_nD, weight_VD, bias_V), targets_N[start : start + chunk])
            total += loss
            if d_h is not None and d_weight is not None:
                torch.mm(gradient_nV, weight_VD, out=d_h[start : start + chunk])
                d_weight += gradient_nV.T @ h_nD
                if d_bias is not None:
                    d_bias += gradient_nV.sum(0, dtype=torch.float32)
        ctx.save_for_backward(d_h, d_weight, d_bias)
        ctx.dtype = weight_VD.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        d_h, d_weight, d_bias = ctx.saved_tensors
        scale = upstream[0]
        d_bias = None if d_bias is None else (d_bias * scale).to(ctx.dtype)
        return d_h.mul_(scale), d_weight.mul_(scale).to(ctx.dtype), d_bias, None, None, None
