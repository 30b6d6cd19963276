"""Masks: which positions each position may look at, as values that combine with `&`.

A mask is asked once per forward pass, by `resolve`, for the table that attention needs; blocks only hand it on.
Positions here are slots of the sequence as it lies in memory (padding included), not rotary positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Allowed(NamedTuple):
    """A resolved mask. `table` [B or 1, 1, T or 1, S] is True where a query may look; None: only `causal` restricts.

    `bias` [1, H, T, S] is added to the scores by the scoring children that know of one (`RelativeBias`).
    """

    causal: bool
    table: Tensor | None
    bias: Tensor | None = None


class Mask:
    """Base of all masks."""

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        """Boolean [B or 1, 1, T or 1, S]: may the query in slot t look at the key in slot s?"""
        raise NotImplementedError

    def resolve(self, queries: int, keys: int, device: torch.device) -> Allowed:
        """The table for the last `queries` of `keys` slots."""
        slots_S = torch.arange(keys, device=device)
        return Allowed(False, self.table(slots_S[keys - queries :], slots_S))

    def resolve_within(self, width: int, queries: int, keys: int, device: torch.device) -> Allowed:
        """As `resolve`, but no query looks further back than the `width` slots that end with it.

        The table covers the slots that the queries can still see, the last `queries + width - 1` of them: those a
        `WindowCache` of that width returns.
        """
        if keys <= width:
            return self.resolve(queries, keys, device)
        slots_S = torch.arange(max(0, keys - queries - width + 1), keys, device=device)
        if queries == 1 and isinstance(self, Causal):  # the newest position sees all that is left
            return Allowed(False, None)
        return Allowed(False, (self & Window(width)).table(slots_S[len(slots_S) - queries :], slots_S))

    def __and__(self, other: Mask) -> Mask:
        return Both(self, other)


@dataclass(frozen=True)
class Both(Mask):
    """Allowed by the one and by the other."""

    one: Mask
    other: Mask

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        return self.one.table(queries_T, keys_S) & self.other.table(queries_T, keys_S)


@dataclass(frozen=True)
class Everything(Mask):
    """Every position sees every position: an encoder without padding."""

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        return torch.ones(1, 1, len(queries_T), len(keys_S), dtype=torch.bool, device=keys_S.device)

    def resolve(self, queries: int, keys: int, device: torch.device) -> Allowed:
        return Allowed(False, None)


@dataclass(frozen=True)
class Causal(Mask):
    """Each position sees itself and what came before: a left-to-right decoder."""

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        return (keys_S[None, :] <= queries_T[:, None])[None, None]

    def resolve(self, queries: int, keys: int, device: torch.device) -> Allowed:
        if queries == keys:
            return Allowed(True, None)
        if queries == 1:  # the newest position sees all that is cached
            return Allowed(False, None)
        return super().resolve(queries, keys, device)


@dataclass(frozen=True)
class Window(Mask):
    """Each position sees the `width` positions that end with it (to be combined with a direction)."""

    width: int

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        return (queries_T[:, None] - keys_S[None, :] < self.width)[None, None]


@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """Slots that hold no token are never looked at. `keep_BS` is True where a token is."""

    keep_BS: Tensor

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        return self.keep_BS[:, None, None, keys_S]  # the same for every query: a kernel reads it once


@dataclass(frozen=True, eq=False)
class Documents(Mask):
    """Packed documents do not see each other. `document_BS` numbers the document of each slot."""

    document_BS: Tensor

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        return (self.document_BS[:, queries_T, None] == self.document_BS[:, None, keys_S])[:, None]


@dataclass(frozen=True, eq=False)
class Prefix(Mask):
    """The first `length_B` positions see each other both ways; what follows is causal."""

    length_B: Tensor

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        in_prefix_BS = keys_S[None] < self.length_B[:, None]
        return in_prefix_BS[:, None, None, :] | Causal().table(queries_T, keys_S)


@dataclass(frozen=True, eq=False)
class Explicit(Mask):
    """Any table at all: `allowed_BSS` [B or 1, S, S], queries first."""

    allowed_BSS: Tensor

    def table(self, queries_T: Tensor, keys_S: Tensor) -> Tensor:
        return self.allowed_BSS[:, queries_T][:, :, keys_S][:, None]
