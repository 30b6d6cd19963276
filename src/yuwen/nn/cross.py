"""A decoder layer that also reads a memory, what an encoder made of another text (Vaswani et al. 2017, 3.2.3)."""

from __future__ import annotations

from torch import Tensor, nn

from yuwen.nn.attention import Attention, ScaledDotProduct
from yuwen.nn.cache import MemoryCache
from yuwen.nn.dropout import Dropout
from yuwen.nn.linear import Linear, together
from yuwen.nn.mask import Allowed


class CrossAttention(nn.Module):
    """Attention whose keys and values come from a memory.

        x -> query -----------------> score -> output
        m -> key   -> [once a text] -/   /
        m -> value -> [once a text] ----/

    x [B, T, D], memory [B, S, D] -> [B, T, D]. With a cache the memory's keys and values are made once.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_width: int | None = None,
        bias: bool = False,
        output_bias: bool = False,
        score: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width or width // heads
        inner = self.heads * self.head_width
        self.query = Linear(width, inner, bias=bias)
        self.key = Linear(width, inner, bias=bias)
        self.value = Linear(width, inner, bias=bias)
        self.output = Linear(inner, width, bias=output_bias)
        self.score = score or ScaledDotProduct()

    def forward(self, x_BTD: Tensor, memory_BSD: Tensor, allowed: Allowed, cache: MemoryCache | None = None) -> Tensor:
        q_BHTK = self._split(self.query(x_BTD))
        k_BHSK, v_BHSK = self.read(memory_BSD) if cache is None else cache.once(lambda: self.read(memory_BSD))
        mixed_BHTK = self.score(q_BHTK, k_BHSK, v_BHSK, allowed)
        return self.output(mixed_BHTK.transpose(1, 2).flatten(2))

    def read(self, memory_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory, [B, S, D] -> [B, H, S, K] each."""
        k, v = together(memory_BSD, self.key, self.value)
        return self._split(k), self._split(v)

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)


class PreNormCrossBlock(nn.Module):
    """The pre-norm block with a second attention, which reads the memory (T5, Pegasus).

        x ──┬─ norm ─ attention ─(+)─┬─ norm ─ cross ─(+)─┬─ norm ─ feedforward ─(+)─>
            └────────────────────┘   └───────── m ────┘   └──────────────────────┘

    x [B, T, D], memory [B, S, D] -> [B, T, D]. `allowed` is for the positions themselves, `readable` for the memory.
    Dropout falls on what each branch adds.
    """

    compiles = True

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        cross_norm: nn.Module,
        cross: CrossAttention,
        feedforward_norm: nn.Module,
        feedforward: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.cross_norm, self.cross = cross_norm, cross
        self.feedforward_norm, self.feedforward = feedforward_norm, feedforward
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor,
        allowed: Allowed,
        readable: Allowed,
        cache: MemoryCache | None = None,
    ) -> Tensor:
        h_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), allowed, None, cache))
        h_BTD = h_BTD + self.dropout(self.cross(self.cross_norm(h_BTD), memory_BSD, readable, cache))
        return h_BTD + self.dropout(self.feedforward(self.feedforward_norm(h_BTD)))


class PostNormCrossBlock(nn.Module):
    """The decoder block of 2017 and of BART: the norms stand on the stream itself (Vaswani et al. 2017, figure 1).

        x ──┬─ attention ─(+)─ norm ─┬─ cross ─(+)─ norm ─┬─ feedforward ─(+)─ norm ─>
            └─────────────┘          └─── m ───┘          └───────────────┘

    Shapes, `allowed`, `readable` and dropout as above.
    """

    compiles = True

    def __init__(
        self,
        attention: Attention,
        attention_norm: nn.Module,
        cross: CrossAttention,
        cross_norm: nn.Module,
        feedforward: nn.Module,
        feedforward_norm: nn.Module,
        *,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.cross, self.cross_norm = cross, cross_norm
        self.feedforward, self.feedforward_norm = feedforward, feedforward_norm
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor,
        allowed: Allowed,
        readable: Allowed,
        cache: MemoryCache | None = None,
    ) -> Tensor:
        h_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, allowed, None, cache)))
        h_BTD = self.cross_norm(h_BTD + self.dropout(self.cross(h_BTD, memory_BSD, readable, cache)))
        return self.feedforward_norm(h_BTD + self.dropout(self.feedforward(h_BTD)))
