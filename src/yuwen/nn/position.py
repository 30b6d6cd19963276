"""Rotary positions: order told by turning queries and keys (Su et al. 2021, RoFormer, section 3.2), and ways to stretch
them to longer texts than the model was first trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class LinearScaling:
    """All positions squeezed: every frequency divided by `factor` (Chen et al. 2023, Position Interpolation, eq. 3)."""

    factor: float
    amplitude = 1.0

    def __call__(self, frequencies: Tensor, theta: float) -> Tensor:
        return frequencies / self.factor


@dataclass(frozen=True)
class Llama3Scaling:
    """LLaMA 3.1's: slow pairs squeezed, fast ones left, those in between blended by how often they turn in `context`.

        f' = f                          turns > high
        f' = (1 - s) f / factor + s f   s = (turns - low) / (high - low)
        f' = f / factor                 turns < low          turns = context f / 2 pi

    Source: the published code (Grattafiori et al. 2024, The Llama 3 Herd of Models, section 3.4.2).
    """

    factor: float
    context: int
    low: float = 1.0
    high: float = 4.0
    amplitude = 1.0

    def __call__(self, frequencies: Tensor, theta: float) -> Tensor:
        wavelengths = 2 * math.pi / frequencies
        kept = (self.context / wavelengths - self.low) / (self.high - self.low)
        blended = (1 - kept) * frequencies / self.factor + kept * frequencies
        squeezed = torch.where(wavelengths > self.context / self.low, frequencies / self.factor, blended)
        return torch.where(wavelengths < self.context / self.high, frequencies, squeezed)


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (Peng et al. 2023, sections 3.2 to 3.4): by the number of the pair, and scores made a little sharper.

    Pairs that turn more than `fast` times in `context` keep their frequency, those below `slow` turns are divided by
    `factor`, with a ramp in between: straight over the pairs as in the published code, in the paper over their turns.
    `amplitude` multiplies queries and keys: 0.1 ln(factor) + 1.
    """

    factor: float
    context: int
    fast: float = 32.0
    slow: float = 1.0
    attention_factor: float | None = None

    @property
    def amplitude(self) -> float:
        given = self.attention_factor
        return (0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0) if given is None else given

    def __call__(self, frequencies: Tensor, theta: float) -> Tensor:
        pairs = len(frequencies)
        first = max(math.floor(self._pair_of(self.fast, pairs, theta)), 0)
        last = min(math.ceil(self._pair_of(self.slow, pairs, theta)), 2 * pairs - 1)
        ramp = torch.arange(pairs, dtype=torch.float32, device=frequencies.device) - first
        squeezed = (ramp / (last - first if last != first else 0.001)).clamp(0, 1)
        return frequencies / self.factor * squeezed + frequencies * (1 - squeezed)

    def _pair_of(self, turns: float, pairs: int, theta: float) -> float:
        """The pair that turns so many times in `context` positions (appendix A.2)."""
        return pairs * math.log(self.context / (turns * 2 * math.pi)) / math.log(theta)


Scaling = LinearScaling | Llama3Scaling | YarnScaling


class Rotary(nn.Module):
    """Angles of rotary positions: pair i of a head turns by position x theta^(-2i/K) (eq. 15), or as `scaling` has it.

    positions [B or 1, T] -> (cos, sin), each [B or 1, 1, T, K/2]; the pairs are (i, i + K/2), as transformers lays
    LLaMA out. In the paper and in Meta's code they are neighbours, which numbers the coordinates otherwise, no more.
    """

    def __init__(self, head_width: int, theta: float = 10_000.0, scaling: Scaling | None = None) -> None:
        super().__init__()
        if head_width % 2:
            raise ValueError(f"rotary positions turn pairs: a head of width {head_width} must be even")
        self.head_width, self.theta, self.scaling = head_width, theta, scaling

    def forward(self, positions_BT: Tensor, dtype: torch.dtype) -> Rotation:
        exponents = torch.arange(0, self.head_width, 2, device=positions_BT.device, dtype=torch.float32)
        # rounded as published code rounds it: at position 8000 a last bit of the frequency is a thousandth of an angle
        frequencies = 1.0 / self.theta ** (exponents / self.head_width)
        if self.scaling is not None:
            frequencies = self.scaling(frequencies, self.theta)
        angles = positions_BT[:, None, :, None].float() * frequencies
        cos, sin = angles.cos(), angles.sin()
        if self.scaling is not None and self.scaling.amplitude != 1:
            cos, sin = cos * self.scaling.amplitude, sin * self.scaling.amplitude
        return cos.to(dtype), sin.to(dtype)


def rotate(x_BHTK: Tensor, rotation: Rotation) -> Tensor:
    """Turns each pair (i, i + K/2) of every head by its angle. Shape unchanged."""
    cos, sin = rotation
    left, right = x_BHTK.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
