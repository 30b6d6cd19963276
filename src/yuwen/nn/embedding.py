"""Ids to vectors, and vectors to scores over ids."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yuwen.nn.linear import linear


def look_up(ids: Tensor, weight_VD: Tensor) -> Tensor:
    """The rows of a table, ids [...] -> [..., D]; below fp32 their gradients are summed in fp32 and rounded once.

    A row that is read a thousand times in a batch would otherwise stop growing: in bf16, 256 + 1 is 256.
    """
    whole = torch.finfo(weight_VD.dtype).bits >= 32
    if whole or not (torch.is_grad_enabled() and weight_VD.requires_grad):
        return F.embedding(ids, weight_VD)
    return _LookUp.apply(ids, weight_VD)  # type: ignore[no-any-return, no-untyped-call]


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight_VD: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.table = weight_VD.shape, weight_VD.dtype
        return F.embedding(ids, weight_VD)

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        (ids,) = ctx.saved_tensors
        (rows, width), dtype = ctx.table
        d_weight_VD = torch.zeros(rows, width, device=d_rows.device)
        d_weight_VD.index_add_(0, ids.flatten(), d_rows.reshape(-1, width).float())
        return None, d_weight_VD.to(dtype)


class TokenEmbedding(nn.Module):
    """Row `id` of a table. ids [B, T] -> [B, T, D].

    `lr_scale` is how fast the table learns beside other tables: one that begins larger must move by larger steps.
    """

    lr_scale = 1.0

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, width))

    def forward(self, ids_BT: Tensor) -> Tensor:
        return look_up(ids_BT, self.weight)


class ScaledTokenEmbedding(TokenEmbedding):
    """A row of the table, times sqrt(width) (Vaswani et al. 2017, section 3.4). ids [B, T] -> [B, T, D].

    `rounded`: the factor is rounded to the table's own type before it multiplies, as Gemma's published code does (at
    width 3072 in bfloat16 it is 55.5, not 55.43), and Marian's and BART's do not.
    """

    def __init__(self, vocabulary: int, width: int, *, rounded: bool = False) -> None:
        super().__init__(vocabulary, width)
        self.factor, self.rounded = width**0.5, rounded

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = super().forward(ids_BT)
        return x_BTD * (torch.tensor(self.factor, dtype=self.weight.dtype) if self.rounded else self.factor)


class LearnedPositions(nn.Module):
    """A vector for each absolute position (Vaswani et al. 2017, section 3.5). [B or 1, T] -> [B or 1, T, D]."""

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(context, width))

    def forward(self, positions_BT: Tensor) -> Tensor:
        if positions_BT.numel() and int(positions_BT.max()) >= len(self.weight):
            raise ValueError(f"position {int(positions_BT.max())} is past the {len(self.weight)} learned positions")
        return look_up(positions_BT, self.weight)

    def of(self, ids_BT: Tensor) -> Tensor:
        """Where each token stands: 0, 1, 2 … in every row, [1, T]."""
        return torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]


class CountedPositions(LearnedPositions):
    """RoBERTa's table: tokens are counted from `padding` + 1, and padding itself stands at `padding`.

    `context` tokens have a place, so the table has context + padding + 1 rows (as published, 514 for 512 tokens); those
    before `padding` are never read.
    """

    def __init__(self, context: int, width: int, *, padding: int) -> None:
        super().__init__(context + padding + 1, width)
        self.padding = padding

    def of(self, ids_BT: Tensor) -> Tensor:
        """Where each token stands, whichever side the padding is on, [B, T]."""
        token_BT = ids_BT != self.padding
        return token_BT.cumsum(1) * token_BT + self.padding


class SinusoidalPositions(nn.Module):
    """Waves instead of a table: sin and cos of position x 10000^(-2i/D) (Vaswani et al. 2017, section 3.5).

    [B or 1, T] -> [B or 1, T, D]. All sines stand before all cosines, as in the authors' code and in Marian's; in the
    paper they alternate, which numbers the coordinates otherwise and nothing else. Nothing is learned, nothing ends.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"sinusoidal positions come in pairs: a width of {width} must be even")
        self.width = width

    def forward(self, positions_BT: Tensor) -> Tensor:
        return sinusoids(positions_BT, self.width)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """What `SinusoidalPositions` gives (Vaswani et al. 2017, section 3.5): positions [...] -> fp32 [..., D], D even."""
    exponents = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64) / width
    angles = positions[..., None] * 10_000.0**-exponents  # in fp64: far out, fp32 would round an angle itself
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


class ShiftedPositions(LearnedPositions):
    """BART's table, whose first two rows are never read: position t is row t + 2 (published for ids of padding)."""

    _SHIFT = 2

    def __init__(self, context: int, width: int) -> None:
        super().__init__(context + self._SHIFT, width)

    def forward(self, positions_BT: Tensor) -> Tensor:
        return super().forward(positions_BT + self._SHIFT)


class TokenHead(nn.Module):
    """Hidden states to scores: h W^T (+ b). `tied_to` shares the embedding's table (Press & Wolf 2017)."""

    def __init__(
        self, vocabulary: int, width: int, *, tied_to: TokenEmbedding | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, width)) if tied_to is None else tied_to.weight
        self.bias = nn.Parameter(torch.zeros(vocabulary)) if bias else None

    def forward(self, h_BTD: Tensor) -> Tensor:
        return linear(h_BTD, self.weight, self.bias)
