"""The n-gram model: the next token depends on the n - 1 before it, and its probability is looked up.

Interpolated Kneser-Ney smoothing (Kneser & Ney 1995; Chen & Goodman 1999, section 2.7 and eq. 25) gives every gram that
was seen its whole probability p_k, and every context h a weight γ(h) for what was not seen after it:

    p_k(w | h) = p_k(h w)                   if h w was seen
                 γ(h) · p_{k-1}(w | h')     else              h' is h without its oldest token; γ = 1 if h was not seen

which is what an ARPA file holds. `yuwen.training.counting` makes these numbers from a text; here they are read. They
are log-probabilities already, so there is no head and nothing for gradients to do, and the hidden state is the context:

    ids_BT -> h_BTD, D = n - 1:   h[..., k-1] is the rank of the last k ids among the k-grams that were seen, or -1
    rank_k(w_1 … w_k) = find_k(rank_{k-1}(w_1 … w_{k-1}) · V + w_k),      rank_1(w) = w

so each order is one sorted table of integers, and a context grows by one binary search per order. Nobody publishes such
models in the layout of Hugging Face: the names in config.json and model.safetensors are our own. Difference here: the
one discount of `smoothing: kneser_ney` is given (published: n1 / (n1 + 2 n2) in each order); `modified` estimates its
three as published.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.models.config import ModelConfig
from yuwen.models.left_to_right import LeftToRight
from yuwen.models.weights import Entry, Same
from yuwen.nn import Mask

_ENDLESS = 16_777_216
_NO_KEY = torch.iinfo(torch.int64).min  # less than any key that is looked for


class NGramConfig(ModelConfig):
    """Order and smoothing of an n-gram model.

    `discount` is taken from every count (`kneser_ney`), or only in an order whose own cannot be estimated (`modified`).
    `sizes` are the entries of each order's table, 1 first: what counting found, and not for a recipe to say. `context`
    only bounds how far generation goes.
    """

    context: int = Field(default=_ENDLESS, gt=0, le=_ENDLESS)
    order: int = Field(default=5, gt=0, le=32)
    smoothing: Literal["kneser_ney", "modified"] = "modified"
    discount: float = Field(default=0.8, gt=0, le=1)
    sizes: tuple[int, ...] = ()

    COUNTS: ClassVar[bool] = True
    CARRIES: ClassVar[bool] = True
    ARCHITECTURE: ClassVar[str] = "NGramModel"
    MODEL_TYPE: ClassVar[str] = "ngram"
    PUBLISHED: ClassVar[Mapping[str, str]] = {
        "vocabulary": "vocab_size",
        "context": "max_length",
        "order": "order",
        "smoothing": "smoothing",
        "discount": "discount",
        "sizes": "sizes",
    }
    REQUIRED: ClassVar[tuple[str, ...]] = ("vocabulary", "order", "sizes")

    @field_validator("sizes", mode="before")
    @classmethod
    def _from_json(cls, sizes: Any) -> Any:
        """JSON has lists only."""
        return tuple(sizes) if isinstance(sizes, list) else sizes

    @model_validator(mode="after")
    def _of_one_model(self) -> Self:
        if not self.sizes:
            return self
        if len(self.sizes) != self.order or self.sizes[0] != self.vocabulary or min(self.sizes) < 1:
            raise ValueError(
                f"sizes={list(self.sizes)}: expected {self.order} positive numbers, the first the vocabulary's"
            )
        return self


class Unigrams(nn.Module):
    """The lowest order: an id is its own rank. log p [V], and log γ [V] of each id as a context."""

    def __init__(self, size: int, *, top: bool) -> None:
        super().__init__()
        self.log_p = _numbers(size, -math.log(size))
        self.backoff = None if top else _numbers(size)

    def find(self, prefixes_N: Tensor, ids_N: Tensor) -> Tensor:
        """Ranks [N] of the ids alone."""
        return ids_N


class Grams(nn.Module):
    """A higher order: sorted keys prefix · V + id, with log p, and log γ of each gram as a context."""

    def __init__(self, size: int, vocabulary: int, *, top: bool) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.register_buffer("keys", torch.full((size,), _NO_KEY))
        self.log_p = _numbers(size)
        self.backoff = None if top else _numbers(size)
        self.keys: Tensor

    def find(self, prefixes_N: Tensor, ids_N: Tensor) -> Tensor:
        """Ranks of the grams that continue prefixes by ids; -1 for what was not seen, such as after a prefix of -1."""
        sought_N = prefixes_N * self.vocabulary + ids_N
        places_N = torch.searchsorted(self.keys, sought_N).clamp(max=len(self.keys) - 1)
        return torch.where((self.keys[places_N] == sought_N) & (prefixes_N >= 0), places_N, -1)

    def after(self, prefixes_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All that was seen after each prefix: (row in 0 … N-1, id, rank), each [M]. Nothing after a prefix of -1."""
        edges_N2 = torch.stack((prefixes_N, prefixes_N + 1), -1) * self.vocabulary
        first_N, last_N = torch.searchsorted(self.keys, edges_N2).unbind(-1)
        sizes_N = (last_N - first_N).clamp(min=0)  # in a damaged file keys may fall
        rows_M = torch.repeat_interleave(sizes_N)
        within_M = torch.arange(len(rows_M), device=rows_M.device) - (sizes_N.cumsum(0) - sizes_N)[rows_M]
        ranks_M = first_N[rows_M] + within_M
        return rows_M, self.keys[ranks_M] % self.vocabulary, ranks_M


class NGram(LeftToRight):
    """ids -> the ranks of the contexts that end with each id -> log p of every id that may come next."""

    positions = None
    orders: Any  # a ModuleList: Unigrams, then Grams

    def __init__(self, config: NGramConfig) -> None:
        super().__init__()
        self.config = config
        V = config.vocabulary
        sizes = config.sizes or (V, *[1] * (config.order - 1))  # nothing counted: any id after any context alike
        tops = [order == config.order for order in range(1, config.order + 1)]
        self.orders = nn.ModuleList(
            [Unigrams(sizes[0], top=tops[0])]
            + [Grams(size, V, top=top) for size, top in zip(sizes[1:], tops[1:], strict=True)]
        )

    def forward(
        self,
        ids_BT: Tensor,
        mask: Mask | None = None,
        positions: Tensor | None = None,
        cache: NGramCache | None = None,
    ) -> Tensor:
        """Contexts, int64 [B, T, n - 1]. They end where the mask hides a position; positions make no difference."""
        T, width = ids_BT.shape[1], self.config.order - 1
        past = cache.length if cache is not None else 0
        read_BS = ids_BT if cache is None else cache.extend(ids_BT)
        h: list[Tensor] = []
        for order in self.orders[:width]:
            before_BS = torch.full_like(read_BS, -1)
            if h:
                before_BS[:, 1:] = h[-1][:, :-1]
            h.append(order.find(before_BS, read_BS))
        h_BTD = torch.stack(h, -1)[:, -T:] if h else ids_BT.new_empty(*ids_BT.shape, 0)
        if mask is None:
            return h_BTD
        seen_BT1 = _seen(mask, T, past + T, width, ids_BT.device)[..., None]
        return torch.where(torch.arange(width, device=ids_BT.device) < seen_BT1, h_BTD, -1)

    def output(self, h_BTD: Tensor) -> Tensor:
        """log p of every id, fp32, [..., n - 1] -> [..., V]: order by order, each where it has seen the id."""
        h_ND = h_BTD.flatten(0, -2)
        scores_NV = self.orders[0].log_p.float().expand(len(h_ND), -1).clone()
        for order, context_N, backoff_N in self._contexts(h_ND):
            scores_NV += backoff_N[:, None]
            rows_M, ids_M, ranks_M = order.after(context_N)
            scores_NV[rows_M, ids_M] = order.log_p[ranks_M].float()
        return scores_NV.view(*h_BTD.shape[:-1], self.config.vocabulary)

    def nats(self, h_ND: Tensor, targets_N: Tensor) -> Tensor:
        """-log p of each target, fp32 [N]: as `output`, but looked up for the one id."""
        log_p_N = self.orders[0].log_p[targets_N].float()
        for order, context_N, backoff_N in self._contexts(h_ND):
            rank_N = order.find(context_N, targets_N)
            log_p_N = torch.where(rank_N >= 0, order.log_p[rank_N.clamp(min=0)].float(), log_p_N + backoff_N)
        return -log_p_N

    def new_cache(self) -> NGramCache:
        return NGramCache(max(0, self.config.order - 2))

    def _contexts(self, h_ND: Tensor) -> Iterator[tuple[Grams, Tensor, Tensor]]:
        """For each order from 2 up: its table, the rank of each row's context, and log γ of it (0 if not seen)."""
        for below, order, context_N in zip(self.orders, self.orders[1:], h_ND.unbind(-1), strict=False):
            backoff_N = torch.where(context_N >= 0, below.backoff[context_N.clamp(min=0)].float(), 0.0)
            yield order, context_N, backoff_N


class NGramCache:
    """The last ids of each row, as many as a context needs beside the newest; how many were read in all."""

    def __init__(self, width: int) -> None:
        self.width, self.length = width, 0
        self._tail_BS: Tensor | None = None

    def extend(self, ids_BT: Tensor) -> Tensor:
        """What is remembered, and the new ids behind it."""
        read_BS = ids_BT if self._tail_BS is None else torch.cat((self._tail_BS, ids_BT), 1)
        self._tail_BS = read_BS[:, max(0, read_BS.shape[1] - self.width) :]
        self.length += ids_BT.shape[1]
        return read_BS

    def truncate(self, length: int) -> bool:
        """Only all or nothing can be kept: what stood before the last ids is not held."""
        if length == 0:
            self._tail_BS, self.length = None, 0
        return length == self.length

    def select(self, rows_B: Tensor) -> None:
        """Keeps the given batch rows, in that order."""
        if self._tail_BS is not None:
            self._tail_BS = self._tail_BS[rows_B]

    def branch(self, rows_B: Tensor) -> NGramCache:
        """Another cache, of the given batch rows; this one stays as it is."""
        twin = copy.copy(self)
        twin.select(rows_B)
        return twin


def build(config: NGramConfig, generator: torch.Generator | None = None) -> NGram:
    """A model whose tables are yet to be filled."""
    return NGram(config)


def weights(config: NGramConfig) -> list[Entry]:
    """Our names, which are the stored ones too."""
    names = [f"orders.{n}.{name}" for n in range(config.order) for name in ("keys", "log_p", "backoff")]
    absent = {"orders.0.keys", f"orders.{config.order - 1}.backoff"}
    return [Same(name, name) for name in names if name not in absent]


def _numbers(size: int, value: float = 0.0) -> nn.Parameter:
    return nn.Parameter(torch.full((size,), value), requires_grad=False)


def _seen(mask: Mask, T: int, slots: int, width: int, device: torch.device) -> Tensor:
    """How many positions in a row, itself the first and at most `width`, each of the last T slots may look back on."""
    table = mask.resolve(T, slots, device).table
    if table is None:
        return torch.full((1, 1), width, device=device)
    table_BTS = table[:, 0].expand(-1, T, -1)
    back_TD = torch.arange(slots - T, slots, device=device)[:, None] - torch.arange(width, device=device)
    seen_BTD = table_BTS.gather(2, back_TD.clamp(min=0).expand(len(table_BTS), -1, -1)) & (back_TD >= 0)
    return seen_BTD.long().cumprod(-1).sum(-1)
