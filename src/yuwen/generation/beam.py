"""Beam search: several beginnings of the answer are kept at once, and the likeliest whole one is given.

    s(y) = log p(y | x) / lp(y),   lp(y) = ((5 + |y|) / 6)^A          (Wu et al. 2016, eq. 14, without coverage)

Longer texts are less likely, whatever they say; the length penalty A takes that back in part (0: not at all). |y|
counts the end token. A row's search is over when nothing that its beams could become is better than what it found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from yuwen.models.inference import refuse_not_finite


class Growing(Protocol):
    """Rows of text that grow by a token at a time (`generation.decoding`)."""

    device: torch.device

    def step(self, ids_B: Tensor) -> Tensor: ...
    def select(self, rows: Sequence[int]) -> None: ...


@dataclass(frozen=True)
class Beam:
    """A beginning of an answer, or a whole one: its new tokens and their log p, in nats."""

    ids: tuple[int, ...]
    log_p: float


def length_penalty(length: int, power: float) -> float:
    """lp(y) of eq. 14."""
    return ((5 + length) / 6) ** power


class Search:
    """The beams of one row, at most `width` of them, for an answer of at most `limit` tokens."""

    def __init__(self, width: int, power: float, limit: int, end_ids: Sequence[int]) -> None:
        self.width, self.power, self.limit = width, power, limit
        self.end_ids = frozenset(end_ids)
        self.live = [Beam((), 0.0)]
        self.best: Beam | None = None
        self.score = -math.inf  # of the best whole answer

    def grow(self, log_p_NV: Tensor) -> list[int]:
        """Adds a token to every live beam and keeps the likeliest; which of the old ones each of them grew from.

        `log_p` [beams, V] are those of each beam's next token. Of the likeliest `width` those that end are whole
        answers; enough others are looked at to keep the beam wide.
        """
        sums_NV = torch.tensor([[beam.log_p] for beam in self.live], device=log_p_NV.device) + log_p_NV
        candidates = min(self.width * (1 + max(1, len(self.end_ids))), sums_NV.numel())
        best = sums_NV.flatten().topk(candidates)
        grown: list[Beam] = []
        parents: list[int] = []
        for rank, (log_p, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            parent, id = divmod(place, sums_NV.shape[1])
            beam = Beam((*self.live[parent].ids, id), log_p)
            if log_p == -math.inf:
                break
            if id in self.end_ids or len(beam.ids) == self.limit:
                if rank < self.width:
                    self._finish(beam)
            elif len(grown) < self.width:
                grown.append(beam)
                parents.append(parent)
        self.live = grown
        if not grown or self._hopeless(grown[0]):
            self.live, parents = [], []
        return parents

    def _finish(self, beam: Beam) -> None:
        score = beam.log_p / length_penalty(len(beam.ids), self.power)
        if self.best is None or score > self.score:
            self.best, self.score = beam, score

    def _hopeless(self, likeliest: Beam) -> bool:
        """Whether no answer can become better than the best: log p only falls, and lp is largest at the limit."""
        return likeliest.log_p / length_penalty(self.limit, self.power) <= self.score


def beam_search(
    rows: Growing, logits_NV: Tensor, searches: Sequence[Search], vocabulary: int, never: Sequence[int] = ()
) -> None:
    """Runs every row's search to its end: afterwards each has its `best` and its `score`.

    `logits` [rows, V] are those of the first token. Ids from `vocabulary` on, and those of `never`, are not taken. All
    rows' beams go through the model together. UserError if the scores are not finite numbers.
    """
    while True:
        log_p_NV = logits_NV[:, :vocabulary].float().log_softmax(-1)
        refuse_not_finite("scores are", log_p_NV.amax(-1))  # single tokens may be ruled out, as in `sampling`
        log_p_NV[:, list(never)] = -math.inf
        start, kept, ids = 0, [], []
        for search in searches:
            if search.live:
                end = start + len(search.live)
                kept += [start + parent for parent in search.grow(log_p_NV[start:end])]
                ids += [beam.ids[-1] for beam in search.live]
                start = end
        if not kept:
            return
        rows.select(kept)
        logits_NV = rows.step(torch.tensor(ids, device=rows.device))
