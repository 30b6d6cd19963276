"""The decoder whose layers look at different distances: most of them near by, some at everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from yuwen.models.decoder import Decoder
from yuwen.nn import DecoderCache, Mask, Rotary
from yuwen.nn.mask import Allowed
from yuwen.nn.position import Rotation


class LocalGlobalDecoder(Decoder):
    """Layers in `local` see the `window` positions that end with each, turned by a rotary of their own.

        local   local   local   global   local   …            a local layer remembers `window` positions,
        [===]   [===]   [===]   [=====   [===]                a global one all of them

    Beltagy et al. 2020 (Longformer, section 3.1) for the window, Gemma 3 for the two kinds of rotary positions.
    """

    def __init__(self, config: Any, *, local: Sequence[int], window: int, local_rotary: Rotary, **parts: Any) -> None:
        super().__init__(config, **parts)
        self.local, self.window, self.local_rotary = frozenset(local), window, local_rotary

    def views(
        self, mask: Mask, positions_BT: Tensor, slots: int, dtype: torch.dtype
    ) -> Sequence[tuple[Allowed, Rotation | None]]:
        far = super().views(mask, positions_BT, slots, dtype)
        near = mask.resolve_within(self.window, positions_BT.shape[1], slots, positions_BT.device)
        turned = self.local_rotary(positions_BT, dtype)
        return [(near, turned) if n in self.local else view for n, view in enumerate(far)]

    def new_cache(self) -> DecoderCache:
        """An empty cache for generation; a local layer's keeps its window only."""
        return DecoderCache(len(self.blocks), {n: self.window for n in self.local})
