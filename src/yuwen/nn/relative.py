"""Attention by distance: a key's place counts from the query, not from the start of the text (Dai et al. 2019, 3.3).

For a query in slot i and a key in slot j,

    score(i, j) = ((q_i + u) · k_j  +  (q_i + v) · W R_{i-j}  +  (q_i + w) · s_{ij}) / sqrt(K)

u, v, w: what is asked of any content, any distance, any segment, whoever asks. R_d are the sinusoids of a distance, so
a key may stand in an earlier segment of the text, further away than anything in this one. s_{ij} is s_0 if both tokens
are of one segment, else s_1 (Yang et al. 2019, section 2.5).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from yuwen.nn.dropout import Dropout
from yuwen.nn.linear import Linear


class Read(NamedTuple):
    """What one layer offers to its queries: keys and values of S slots, and the keys of S + T distances."""

    k_BHSK: Tensor
    v_BHSK: Tensor
    r_HKR: Tensor


class Sight(NamedTuple):
    """Where P queries stand and what they may see; the same in every layer.

    `places_BP`: their slots among the last T (None: each in turn, P = T). `bias_BHPS` is 0 where a query may look and
    -inf elsewhere (None: everywhere); a query that may look nowhere has zeros there and in `sees_BHP1`, and reads
    nothing. `other_BHPS` is 1 where the key is of another segment (None: all are of one).
    """

    places_BP: Tensor | None = None
    bias_BHPS: Tensor | None = None
    sees_BHP1: Tensor | None = None
    other_BHPS: Tensor | None = None

    @classmethod
    def through(
        cls, table_BHPS: Tensor | None, dtype: torch.dtype, places_BP: Tensor | None = None, other: Tensor | None = None
    ) -> Sight:
        """From a table that is True where a query may look (None: everywhere)."""
        other = None if other is None else other.to(dtype)
        if table_BHPS is None:
            return cls(places_BP, None, None, other)
        sees = table_BHPS.any(-1, keepdim=True)
        bias = torch.zeros(table_BHPS.shape, dtype=dtype, device=table_BHPS.device)
        return cls(places_BP, bias.masked_fill_(~table_BHPS & sees, float("-inf")), sees.to(dtype), other)


class Distances(nn.Module):
    """R_d = [sin(d f) cos(d f)], f_n = 10000^(-2n/D), for the distances d = S, S - 1, … 1 - T: [S + T, D].

    All sines come first, as in the published code (Vaswani et al. 2017, section 3.5, alternates). The first row is no
    distance that occurs; it makes every row of scores one longer, which `by_distance` lives on.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, queries: int, keys: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        distances = torch.arange(keys, -queries, -1, dtype=torch.float32, device=device)
        exponents = torch.arange(0, self.width, 2, dtype=torch.float32, device=device) / self.width
        angles = distances[:, None] * (1.0 / 10_000.0**exponents)
        return torch.cat((angles.sin(), angles.cos()), dim=-1).to(dtype)


class RelativeAttention(nn.Module):
    """Multi-head attention with the scores above; queries and what they read are given apart.

    `read(heard [B, S, D], distances [S + T, D])` once a layer; then for any queries x [B, P, D] -> [B, P, D]. So two
    streams can ask the same keys (Yang et al. 2019, section 2.3). `segments` builds w and s.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.query, self.key, self.value, self.position, self.output = (
            Linear(width, width, bias=False) for _ in range(5)
        )
        self.content_bias, self.position_bias, self.segment_bias = (nn.Parameter(torch.zeros(width)) for _ in range(3))
        self.segments = nn.Parameter(torch.zeros(2, heads, self.head_width))
        self.dropout = Dropout(dropout)

    def read(self, heard_BSD: Tensor, distances_RD: Tensor) -> Read:
        k_BHSK, v_BHSK = self._split(self.key(heard_BSD)), self._split(self.value(heard_BSD))
        r_HKR = self.position(distances_RD).unflatten(-1, (self.heads, self.head_width)).permute(1, 2, 0)
        return Read(k_BHSK, v_BHSK, r_HKR)

    def forward(self, x_BPD: Tensor, read: Read, sight: Sight) -> Tensor:
        q_BPD = self.query(x_BPD)
        asks_content, asks_position = self._split(q_BPD + self.content_bias), self._split(q_BPD + self.position_bias)
        scores_BHPS = asks_content @ read.k_BHSK.transpose(-1, -2)
        scores_BHPS = scores_BHPS + by_distance(asks_position @ read.r_HKR, read.k_BHSK.shape[2], sight.places_BP)
        if sight.other_BHPS is not None:  # s_0 for all keys would change nothing: only the difference of the two counts
            asks_segment = self._split(q_BPD + self.segment_bias)
            strange_HK1 = (self.segments[1] - self.segments[0])[..., None]
            scores_BHPS = scores_BHPS + asks_segment @ strange_HK1 * sight.other_BHPS
        scores_BHPS = scores_BHPS * self.head_width**-0.5
        if sight.bias_BHPS is not None:
            scores_BHPS = scores_BHPS + sight.bias_BHPS
        mixed_BHPK = self.dropout(scores_BHPS.softmax(-1)) @ read.v_BHSK
        if sight.sees_BHP1 is not None:
            mixed_BHPK = mixed_BHPK * sight.sees_BHP1
        return self.output(mixed_BHPK.transpose(1, 2).flatten(2))

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)


def by_distance(scores_BHPR: Tensor, keys: int, places_BP: Tensor | None) -> Tensor:
    """Scores of distances, column r for distance S - r, as scores of keys: [B, H, P, S + T] -> [B, H, P, S].

    The query in slot t of the last T has its key j at the distance S - T + t - j, in column T - t + j: each row one
    column further left. Laid out flat, row t begins at number T + t (S + T - 1), so rows of S + T - 1 begin right.
    """
    B, H, P, R = scores_BHPR.shape
    T = R - keys
    if places_BP is None:
        return scores_BHPR.flatten(2)[..., T:].view(B, H, P, R - 1)[..., :keys]
    columns_BPS = T - places_BP[..., None] + torch.arange(keys, device=places_BP.device)
    return scores_BHPR.gather(-1, columns_BPS[:, None].expand(B, H, P, keys))
