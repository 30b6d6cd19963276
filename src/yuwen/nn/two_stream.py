"""One layer of XLNet: what a position holds, and what can be told of it without looking (Yang et al. 2019, 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yuwen.nn.dropout import Dropout
from yuwen.nn.relative import Read, RelativeAttention, Sight


class TwoStreamBlock(nn.Module):
    """The content stream h knows each token and reads those up to it in the order; the query stream g knows only where
    a token stands, and reads the content of those before it. One set of weights serves both (figure 1):

        g ← step(g; keys and values of h at earlier tokens)
        h ← step(h; keys and values of h at earlier tokens and its own)

        step:   x ──┬─ attention ─(+)─ norm ─┬─ feedforward ─(+)─ norm ─>
                    └──────────────┘         └────────────────┘

    h [B, T, D], g [B, P, D] -> the same of the next layer, each None if it has no `Sight`. `distances` [S + T, D] and
    `past` [B, S - T, D], hidden states of earlier segments (Dai et al. 2019, section 3.2), are read beside h.
    """

    compiles = True  # one graph serves all layers: the loop may compile it

    def __init__(
        self,
        attention: RelativeAttention,
        attention_norm: nn.Module,
        feedforward: nn.Module,
        feedforward_norm: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.feedforward, self.feedforward_norm = feedforward, feedforward_norm
        self.dropout = Dropout(dropout)

    def forward(
        self,
        h_BTD: Tensor,
        distances_RD: Tensor,
        past_BMD: Tensor | None = None,
        *,
        h_sight: Sight | None = None,
        g_BPD: Tensor | None = None,
        g_sight: Sight | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        heard_BSD = h_BTD if past_BMD is None else torch.cat((past_BMD, h_BTD), dim=1)
        read = self.attention.read(heard_BSD, distances_RD)
        return (
            None if h_sight is None else self._step(h_BTD, read, h_sight),
            None if g_sight is None or g_BPD is None else self._step(g_BPD, read, g_sight),
        )

    def _step(self, x_BPD: Tensor, read: Read, sight: Sight) -> Tensor:
        x_BPD = self.attention_norm(x_BPD + self.dropout(self.attention(x_BPD, read, sight)))
        return self.feedforward_norm(x_BPD + self.dropout(self.feedforward(x_BPD)))
