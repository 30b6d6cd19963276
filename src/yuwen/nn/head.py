"""What stands between an encoder's hidden states and its answers (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yuwen.nn.feedforward import ACTIVATIONS
from yuwen.nn.linear import Linear


class HeadTransform(nn.Module):
    """norm(f(W h + b)): a last look at a position before its word is told. [..., D] -> [..., D or `output`]."""

    def __init__(self, width: int, norm: nn.Module, *, activation: str = "gelu", output: int | None = None) -> None:
        super().__init__()
        self.dense = Linear(width, output or width)
        self.activation = ACTIVATIONS[activation]
        self.norm = norm

    def forward(self, h_BTD: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(h_BTD)))


class Pooler(nn.Module):
    """tanh(W h_0 + b): the first position speaks for the whole sequence. [B, T, D] -> [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = Linear(width, width)

    def forward(self, h_BTD: Tensor) -> Tensor:
        return torch.tanh(self.dense(h_BTD[:, 0]))
