"""The left-to-right skeleton that GPT-2, LLaMA and Qwen share: embed, blocks, norm, head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yuwen.models.left_to_right import LeftToRight
from yuwen.nn import Causal, DecoderCache, Dropout, Mask, Rotary, TokenEmbedding, TokenHead
from yuwen.nn.mask import Allowed
from yuwen.nn.position import Rotation


class Decoder(LeftToRight):
    """ids -> embedding (+ positions) -> blocks -> norm -> h;  head(h) -> logits.

    `forward(ids_BT) -> h_BTD`, `output(h_BTD) -> logits_BTV`. `positions` default to 0, 1, 2 … after what the cache
    holds; `mask` defaults to causal.
    """

    def __init__(
        self,
        config: Any,
        *,
        embedding: TokenEmbedding,
        blocks: Sequence[nn.Module],
        norm: nn.Module,
        head: TokenHead,
        positions: nn.Module | None = None,
        rotary: Rotary | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.positions, self.rotary = positions, rotary
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = head

    def forward(
        self,
        ids_BT: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        past = cache.length if cache is not None else 0
        T = ids_BT.shape[1]
        if positions is None:
            positions = torch.arange(past, past + T, device=ids_BT.device)[None]
        h_BTD = self.embedding(ids_BT)
        if self.positions is not None:
            h_BTD = h_BTD + self.positions(positions).to(h_BTD.dtype)
        h_BTD = self.dropout(h_BTD)
        views = self.views(mask or Causal(), positions, past + T, h_BTD.dtype)
        for n, (block, (allowed, rotation)) in enumerate(zip(self.blocks, views, strict=True)):
            h_BTD = block(h_BTD, allowed, rotation, cache.layers[n] if cache is not None else None)
        return self.norm(h_BTD)

    def views(
        self, mask: Mask, positions_BT: Tensor, slots: int, dtype: torch.dtype
    ) -> Sequence[tuple[Allowed, Rotation | None]]:
        """For each block, where the last T of so many slots may look and how they are turned: here the same for all."""
        allowed = mask.resolve(positions_BT.shape[1], slots, positions_BT.device)
        rotation = self.rotary(positions_BT, dtype) if self.rotary is not None else None
        return [(allowed, rotation)] * len(self.blocks)

    def new_cache(self) -> DecoderCache:
        """An empty cache for generation."""
        return DecoderCache(len(self.blocks))


def initialise(model: Decoder, generator: torch.Generator | None, *, std: float = 0.02) -> None:
    """Normal(0, std) matrices and tables; what writes into the residual stream divided by sqrt(2 x layers); no bias."""
    residual = std / (2 * len(model.blocks)) ** 0.5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.is_meta:  # nothing to fill, and to draw there PyTorch would first import its compiler for seconds
                continue
            if name.endswith(".bias"):
                weight.zero_()
            elif weight.dim() == 2:
                writes = name.endswith(("attention.output.weight", "feedforward.down.weight"))
                weight.normal_(0.0, residual if writes else std, generator=generator)
