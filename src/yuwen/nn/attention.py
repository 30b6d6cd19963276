"""Attention: each position reads from the positions its mask allows (Vaswani et al. 2017, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from yuwen.nn.cache import KeyValueCache
from yuwen.nn.kernels import attend
from yuwen.nn.linear import Linear, together
from yuwen.nn.mask import Allowed
from yuwen.nn.position import Rotation, rotate


class ScaledDotProduct(nn.Module):
    """softmax(Q K^T / sqrt(K)) V (eq. 1), for grouped queries too (Ainslie et al. 2023): H / G queries share a key.

    q [B, H, T, K], k and v [B, G, S, K] -> [B, H, T, K]. `scale` takes the place of 1 / sqrt(K) (Gemma 3's
    query_pre_attn_scalar). How it is computed: `nn.kernels`.
    """

    def __init__(self, *, dropout: float = 0.0, scale: float | None = None) -> None:
        super().__init__()
        self.rate, self.scale = dropout, scale

    def forward(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, allowed: Allowed) -> Tensor:
        rate = self.rate if self.training else 0.0
        return attend(q_BHTK, k_BGSK, v_BGSK, allowed, rate=rate, scale=self.scale)


class Attention(nn.Module):
    """Multi-head attention; multi-query when `kv_heads` is 1, grouped in between.

        x -> query  -> [norm] -> [rotate] ------------> score -> output
        x -> key    -> [norm] -> [rotate] -> [cache] -/   /
        x -> value  -----------------------> [cache] ----/

    [B, T, D] -> [B, T, D]. `query_norm` and `key_norm` act on each head (Qwen3's QK-norm);
    `score` is the scoring child. Who reads another text does so by `CrossAttention`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_width: int | None = None,
        bias: bool = False,
        output_bias: bool = False,
        query_norm: nn.Module | None = None,
        key_norm: nn.Module | None = None,
        score: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.kv_heads = kv_heads or heads
        self.head_width = head_width or width // heads
        self.query = Linear(width, self.heads * self.head_width, bias=bias)
        self.key = Linear(width, self.kv_heads * self.head_width, bias=bias)
        self.value = Linear(width, self.kv_heads * self.head_width, bias=bias)
        self.output = Linear(self.heads * self.head_width, width, bias=output_bias)
        self.query_norm, self.key_norm = query_norm, key_norm
        self.score = score or ScaledDotProduct()

    def forward(
        self,
        x_BTD: Tensor,
        allowed: Allowed,
        rotation: Rotation | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        q, k, v = together(x_BTD, self.query, self.key, self.value)
        q_BTHK = q.unflatten(-1, (self.heads, self.head_width))
        k_BSGK = k.unflatten(-1, (self.kv_heads, self.head_width))
        v_BSGK = v.unflatten(-1, (self.kv_heads, self.head_width))
        if self.query_norm is not None and self.key_norm is not None:
            q_BTHK, k_BSGK = self.query_norm(q_BTHK), self.key_norm(k_BSGK)
        q_BHTK, k_BGSK, v_BGSK = (t.transpose(1, 2) for t in (q_BTHK, k_BSGK, v_BSGK))
        if rotation is not None:
            q_BHTK, k_BGSK = rotate(q_BHTK, rotation), rotate(k_BGSK, rotation)
        if cache is not None:
            k_BGSK, v_BGSK = cache.append(k_BGSK, v_BGSK)
        mixed_BHTK = self.score(q_BHTK, k_BGSK, v_BGSK, allowed)
        return self.output(mixed_BHTK.transpose(1, 2).flatten(2))
