"""One layer of a Transformer: attention, then feed-forward, each added to the residual stream."""

from __future__ import annotations

from torch import Tensor, nn

from yuwen.nn.attention import Attention
from yuwen.nn.cache import KeyValueCache
from yuwen.nn.dropout import Dropout
from yuwen.nn.mask import Allowed
from yuwen.nn.position import Rotation


class PreNormBlock(nn.Module):
    """The pre-norm block (GPT-2, LLaMA, Qwen): h = x + attention(norm(x)); h + feedforward(norm(h)).

        x ──┬─ norm ─ attention ─(+)─┬─ norm ─ feedforward ─(+)─>
            └────────────────────┘   └──────────────────────┘

    [B, T, D] -> [B, T, D]. Dropout falls on what each branch adds.
    """

    compiles = True  # one graph serves all layers: the loop may compile it

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        feedforward_norm: nn.Module,
        feedforward: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.feedforward_norm, self.feedforward = feedforward_norm, feedforward
        self.dropout = Dropout(dropout)

    def forward(
        self, x_BTD: Tensor, allowed: Allowed, rotation: Rotation | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        h_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), allowed, rotation, cache))
        return h_BTD + self.dropout(self.feedforward(self.feedforward_norm(h_BTD)))


class ParallelBlock(nn.Module):
    """The parallel block: x + attention(norm(x)) + feedforward(norm(x)) (Wang & Komatsuzaki 2021; PaLM, section 2).

        x ──┬─ norm ─┬─ attention ───┬─(+)─>
            │        └─ feedforward ─┘  │
            └───────────────────────────┘

    [B, T, D] -> [B, T, D]. One norm serves both branches, and neither waits for the other. Dropout falls on what each
    branch adds.
    """

    compiles = True

    def __init__(self, norm: nn.Module, attention: Attention, feedforward: nn.Module, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.attention, self.feedforward = norm, attention, feedforward
        self.dropout = Dropout(dropout)

    def forward(
        self, x_BTD: Tensor, allowed: Allowed, rotation: Rotation | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        n_BTD = self.norm(x_BTD)
        read_BTD = self.attention(n_BTD, allowed, rotation, cache)
        return x_BTD + self.dropout(read_BTD) + self.dropout(self.feedforward(n_BTD))


class PostNormBlock(nn.Module):
    """The block of 2017 and of BERT: h = norm(x + attention(x)); norm(h + feedforward(h)) (Vaswani et al. 2017, 3.1).

        x ──┬─ attention ─(+)─ norm ─┬─ feedforward ─(+)─ norm ─>
            └──────────────┘         └────────────────┘

    [B, T, D] -> [B, T, D]. Dropout falls on what each branch adds. The stream itself passes the norms, so that no layer
    hands on more than unit variance; gradients are rescaled at every one of them, and training wants a warm-up.
    """

    compiles = True  # one graph serves all layers: the loop may compile it

    def __init__(
        self,
        attention: Attention,
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
        self, x_BTD: Tensor, allowed: Allowed, rotation: Rotation | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        h_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, allowed, rotation, cache)))
        return self.feedforward_norm(h_BTD + self.dropout(self.feedforward(h_BTD)))


class SandwichNormBlock(nn.Module):
    """Norms around each branch (Gemma 2 and 3): h = x + norm(attention(norm(x))); h + norm(feedforward(norm(h))).

        x ──┬─ norm ─ attention ─ norm ─(+)─┬─ norm ─ feedforward ─ norm ─(+)─>
            └───────────────────────────┘   └─────────────────────────────┘

    [B, T, D] -> [B, T, D]. What a branch adds has the size its last norm gives it, however large its weights grow.
    Dropout falls on what each branch adds.
    """

    compiles = True

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        attention_out_norm: nn.Module,
        feedforward_norm: nn.Module,
        feedforward: nn.Module,
        feedforward_out_norm: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention, self.attention_out_norm = attention_norm, attention, attention_out_norm
        self.feedforward_norm, self.feedforward = feedforward_norm, feedforward
        self.feedforward_out_norm = feedforward_out_norm
        self.dropout = Dropout(dropout)

    def forward(
        self, x_BTD: Tensor, allowed: Allowed, rotation: Rotation | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        read_BTD = self.attention(self.attention_norm(x_BTD), allowed, rotation, cache)
        h_BTD = x_BTD + self.dropout(self.attention_out_norm(read_BTD))
        return h_BTD + self.dropout(self.feedforward_out_norm(self.feedforward(self.feedforward_norm(h_BTD))))
