"""What every model that continues text can do, whatever it is made of: attention, recurrence or counts."""

from __future__ import annotations

from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from yuwen.nn import Mask


class Cache(Protocol):
    """What a model remembers between calls, so that each new token costs one position."""

    @property
    def length(self) -> int:
        """Positions read so far."""
        ...

    def select(self, rows_B: Tensor) -> None:
        """Keeps the given batch rows, in that order: for beams, and for sequences that have ended."""
        ...

    def truncate(self, length: int) -> bool:
        """Forgets all but the first `length` positions. False if what they need is not held: it is of no more use."""
        ...


class LeftToRight(nn.Module):
    """A model of the next token: `forward(ids_BT) -> h_BTD`, `output(h_BTD) -> logits_BTV`.

    Evaluation, generation and the causal objective ask for no more than this. `head` maps what `readout` makes of the
    hidden states to scores: `output(h) = head(readout(h))`, so that a loss may take the head in pieces.
    """

    config: Any
    head: Any  # a TokenHead, where the model learns by softmax

    def forward(
        self,
        ids_BT: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Hidden states; `mask` defaults to causal, `positions` to 0, 1, 2 … after what the cache holds."""
        raise NotImplementedError

    def readout(self, h_BTD: Tensor) -> Tensor:
        """What the head reads: here the hidden states themselves."""
        return h_BTD

    def output(self, h_BTD: Tensor) -> Tensor:
        """Scores over the vocabulary, [..., D] -> [..., V]."""
        return self.head(self.readout(h_BTD))

    def nats(self, h_ND: Tensor, targets_N: Tensor) -> Tensor:
        """-log p of each target, in fp32, [N]."""
        return F.cross_entropy(self.output(h_ND[None])[0].float(), targets_N, reduction="none")

    def new_cache(self) -> Any:
        """An empty `Cache` of the model's own kind, for generation."""
        raise NotImplementedError
