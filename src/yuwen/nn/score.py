"""Scores other than the scaled dot product: what a query says of a key before the softmax.

Each is a child of `Attention` in the place of `ScaledDotProduct`: q [B, H, T, K], k and v [B, G, S, K], H a multiple of
G -> [B, H, T, K].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from yuwen.nn.dropout import dropout
from yuwen.nn.mask import Allowed, Causal

_STRIP = 1 << 22  # numbers that a strip of additive scores may hold at once


class RelativeBias(nn.Module):
    """A learned number for every head and distance, added to the scores (Raffel et al. 2020, section 2.1).

        bias[h, t, s] = weight[bucket(s - t), h]

    Half of the buckets hold one distance each, the others ever wider ranges, on a logarithmic scale up to `furthest`;
    all that lie further share the last. With `both_sides` half of all buckets are for keys behind the query, otherwise
    those count as distance 0, because no query sees them. One table serves all layers: it is asked once per forward
    pass, and what it gives is handed on with the mask.
    """

    def __init__(self, heads: int, *, buckets: int = 32, furthest: int = 128, both_sides: bool) -> None:
        super().__init__()
        self.buckets, self.furthest, self.both_sides = buckets, furthest, both_sides
        self.weight = nn.Parameter(torch.empty(buckets, heads))

    def forward(self, allowed: Allowed, queries: int, keys: int) -> Allowed:
        """The same places, with a bias [1, H, T, S] for the last `queries` of `keys` positions."""
        device = self.weight.device
        distances = torch.arange(1 - keys, queries, device=device)  # s - t, of every pair there is
        exact = torch.promote_types(self.weight.dtype, torch.float32)  # the gradient is summed in at least fp32
        by_distance_HN = F.embedding(self.bucket(distances), self.weight.to(exact)).T
        # row t of the table is the stretch of S distances that begins with s = 0, so it begins one earlier than row t-1
        bias_HTS = by_distance_HN.unfold(-1, keys, 1).flip(1).to(self.weight.dtype)
        if allowed.causal:
            slots_S = torch.arange(keys, device=device)
            bias_HTS = bias_HTS.masked_fill(~Causal().table(slots_S[keys - queries :], slots_S)[0], -math.inf)
        return Allowed(False, allowed.table, bias_HTS[None])

    def bucket(self, distances: Tensor) -> Tensor:
        """Which bucket a distance s - t belongs to."""
        buckets, first = self.buckets, torch.zeros_like(distances)
        if self.both_sides:
            buckets //= 2
            first = (distances > 0) * buckets
            distances = distances.abs()
        else:
            distances = (-distances).clamp(min=0)
        exact = buckets // 2
        # in fp32 and in this order, as published: a bucket's edge must not move by a rounding
        share = torch.log(distances.clamp(min=1).float() / exact) / math.log(self.furthest / exact)
        wide = (exact + (share * (buckets - exact)).long()).clamp(max=buckets - 1)
        return first + torch.where(distances < exact, distances, wide)


class BiasedDotProduct(nn.Module):
    """softmax(scale Q K^T + bias) V, with the bias that comes with the mask; T5 does not scale (`scale` 1)."""

    def __init__(self, *, dropout: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.rate, self.scale = dropout, scale

    def forward(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, allowed: Allowed) -> Tensor:
        k_BHSK, v_BHSK = for_each_query_head(q_BHTK, k_BGSK), for_each_query_head(q_BHTK, v_BGSK)
        scores_BHTS = (q_BHTK * self.scale) @ k_BHSK.transpose(-1, -2)
        return weighted(scores_BHTS, v_BHSK, allowed, self.rate if self.training else 0.0)


class Additive(nn.Module):
    """softmax(w^T tanh(q + k)) V: a small network compares query and key (Bahdanau et al. 2015, appendix A.1.2).

    Query and key projections are the paper's W_a and U_a, `weight` [H, 1, K] its v_a, one for each head. Every pair of
    positions has K numbers of its own, so scores are made a strip of queries at a time, and made again in the backward
    pass rather than kept.
    """

    def __init__(self, heads: int, head_width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.rate = dropout
        self.weight = nn.Parameter(torch.empty(heads, 1, head_width))

    def forward(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, allowed: Allowed) -> Tensor:
        k_BHSK, v_BHSK = for_each_query_head(q_BHTK, k_BGSK), for_each_query_head(q_BHTK, v_BGSK)
        # a compiled graph makes each number where it is summed, and holds none of them
        rows = q_BHTK.shape[2] if torch.compiler.is_compiling() else max(1, _STRIP // k_BHSK.numel())
        strips = [self._scores(q_BHnK, k_BHSK) for q_BHnK in q_BHTK.split(rows, dim=2)]
        return weighted(torch.cat(strips, 2), v_BHSK, allowed, self.rate if self.training else 0.0)

    def _scores(self, q_BHnK: Tensor, k_BHSK: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return _compared(q_BHnK, k_BHSK, self.weight)
        scores: Tensor = checkpoint(
            _compared, q_BHnK, k_BHSK, self.weight, use_reentrant=False, preserve_rng_state=False
        )
        return scores


def _compared(q_BHnK: Tensor, k_BHSK: Tensor, weight_H1K: Tensor) -> Tensor:
    """[B, H, n, S]: w^T tanh(q + k)."""
    return (torch.tanh(q_BHnK[:, :, :, None] + k_BHSK[:, :, None]) * weight_H1K[:, :, None]).sum(-1)


def for_each_query_head(q_BHTK: Tensor, shared_BGSK: Tensor) -> Tensor:
    """Keys or values, repeated for the query heads that share them: [B, G, S, K] -> [B, H, S, K]."""
    each = q_BHTK.shape[1] // shared_BGSK.shape[1]
    return shared_BGSK if each == 1 else shared_BGSK.repeat_interleave(each, dim=1)


def weighted(scores_BHTS: Tensor, v_BHSK: Tensor, allowed: Allowed, rate: float) -> Tensor:
    """softmax(scores + bias, over the keys allowed) V, the weights dropped out at `rate`: [B, H, T, K]."""
    if allowed.bias is not None:
        scores_BHTS = scores_BHTS + allowed.bias
    table = allowed.table
    if allowed.causal:
        T, S = scores_BHTS.shape[-2:]
        slots_S = torch.arange(S, device=scores_BHTS.device)
        table = Causal().table(slots_S[S - T :], slots_S)
    if table is not None:  # not minus infinity: a query that may look nowhere (padding) must not become nan
        scores_BHTS = scores_BHTS.masked_fill(~table, torch.finfo(scores_BHTS.dtype).min)
    weights_BHTS = scores_BHTS.softmax(-1)
    return (dropout(weights_BHTS, rate) if rate else weights_BHTS) @ v_BHSK
