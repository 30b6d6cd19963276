"""What a block does to each position alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yuwen.nn.linear import Linear, together


def relu(x: Tensor) -> Tensor:
    """max(x, 0). Its slope is taken from the sign of what it gave: compiled, PyTorch's own keeps a mask of booleans for
    that, element by element, which takes a fifth of a training step in bfloat16."""
    return _Relu.apply(x) if torch.is_grad_enabled() else F.relu(x)  # type: ignore[no-any-return, no-untyped-call]


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = F.relu(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Tensor:  # type: ignore[override]
        (out,) = ctx.saved_tensors
        return d_out * out.sign()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """W2 f(W1 x + b1) + b2 (Vaswani et al. 2017, eq. 2). [B, T, D] -> [B, T, D]."""

    def __init__(self, width: int, hidden: int, *, activation: str = "gelu", bias: bool = True) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.up = Linear(width, hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x_BTD)))


class GatedFeedForward(nn.Module):
    """W2 (f(Wg x) * W1 x), SwiGLU when f is SiLU (Shazeer 2020, eq. 6). [B, T, D] -> [B, T, D]."""

    def __init__(self, width: int, hidden: int, *, activation: str = "silu", bias: bool = False) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.gate = Linear(width, hidden, bias=bias)
        self.up = Linear(width, hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate_BTF, up_BTF = together(x_BTD, self.gate, self.up)
        return self.down(self.activation(gate_BTF) * up_BTF)
