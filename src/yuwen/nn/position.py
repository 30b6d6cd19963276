"""Rotary positions: order told by turning queries and keys (Su et al. 2021, RoFormer, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]


class Rotary(nn.Module):
    """Angles of rotary positions: pair i of a head turns by position x theta^(-2i/K) (eq. 15).

    positions [B or 1, T] -> (cos, sin), each [B or 1, 1, T, K/2]; the pairs are (i, i + K/2), as LLaMA has them.
    """

    def __init__(self, head_width: int, theta: float = 10_000.0) -> None:
        super().__init__()
        if head_width % 2:
            raise ValueError(f"rotary positions turn pairs: a head of width {head_width} must be even")
        self.head_width, self.theta = head_width, theta

    def forward(self, positions_BT: Tensor, dtype: torch.dtype) -> Rotation:
        exponents = torch.arange(0, self.head_width, 2, device=positions_BT.device, dtype=torch.float32)
        frequencies = self.theta ** -(exponents / self.head_width)
        angles = positions_BT[:, None, :, None].float() * frequencies
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x_BHTK: Tensor, rotation: Rotation) -> Tensor:
    """Turns each pair (i, i + K/2) of every head by its angle. Shape unchanged."""
    cos, sin = rotation
    left, right = x_BHTK.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
