"""Prompts read through the cache: what they share is read once, what is scored after them continues from there.

    shared     s s s s                       once for all prompts
    own                a b c                 once for each, in batches of equal length
    continuation             x y             once for each continuation of each

Nothing is padded but the ends of continuations, which nobody looks at: rows need no mask, sliding windows stay exact,
and a row computes what it would alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from yuwen.models.inference import inference
from yuwen.nn import DecoderCache
from yuwen.tasks.batches import equal_batches

_CHUNK = 1024  # positions read at once
_TOKENS = 1024  # prompt positions of one batch
_SLOTS = 8192  # cache slots that continuations fill at once
_LOGITS = 1 << 24  # scores held at once

Ids = Sequence[int]


@dataclass(frozen=True)
class Read:
    """Prompts of one length, read: their places among all, the cache, and the scores [B, V] of what follows."""

    places: list[int]
    length: int
    cache: DecoderCache
    logits_BV: Tensor


def read(model: Any, prompts: Sequence[Ids]) -> Iterator[Read]:
    """Reads all prompts (none empty), in batches of equal length."""
    device = next(model.parameters()).device
    shared = common(prompts)[: min(map(len, prompts)) - 1]  # each keeps a token of its own to be scored after
    with inference(model, quick=True):
        start = model.new_cache()
        if shared:
            _forward(model, torch.tensor([shared], device=device), start)
    own = [list(prompt[len(shared) :]) for prompt in prompts]
    for places in equal_batches([len(ids) for ids in own], lambda place: len(own[place]), _TOKENS):
        ids_BT = torch.tensor([own[place] for place in places], device=device)
        with inference(model, quick=True):
            rows_B = torch.zeros(len(places), dtype=torch.long, device=device)
            cache = start.branch(rows_B) if shared else model.new_cache()
            h_BTD = _forward(model, ids_BT, cache)
            logits_BV = model.output(h_BTD[:, -1:])[:, 0]
        yield Read(places, len(shared) + ids_BT.shape[1], cache, logits_BV)


def log_probabilities(model: Any, prompts: Sequence[Ids], continuations: Sequence[Sequence[Ids]]) -> list[list[float]]:
    """log p(continuation | prompt) = sum_j log p(t_j | prompt, t_<j), in nats, for every continuation of every prompt.

    A prompt is read once, however many continuations it has. No prompt and no continuation may be empty.
    """
    result: list[list[float]] = [[] for _ in prompts]
    for batch in read(model, prompts):
        rows = [(row, ids) for row, place in enumerate(batch.places) for ids in continuations[place]]
        with inference(model, quick=True):
            first_BV = batch.logits_BV.float().log_softmax(-1)
            row_R = [row for row, _ in rows]
            total_R = first_BV[row_R, [ids[0] for _, ids in rows]].double()
            for part in _parts(rows, batch):
                total_R[part] += _rest(model, batch.cache, [rows[place] for place in part]).double()
        for (row, _), total in zip(rows, total_R.tolist(), strict=True):
            result[batch.places[row]].append(total)
    return result


def common(rows: Sequence[Ids]) -> list[int]:
    """The longest beginning that all rows share."""
    low, high = min(rows, key=list), max(rows, key=list)  # the two that differ first, in dictionary order
    for place, (one, other) in enumerate(zip(low, high, strict=False)):
        if one != other:
            return list(low[:place])
    return list(low)


def _parts(rows: list[tuple[int, Ids]], batch: Read) -> Iterator[list[int]]:
    """Places of the continuations of more than one token, so many at a time that memory stays bounded."""
    longer = [place for place, (_, ids) in enumerate(rows) if len(ids) > 1]
    longer.sort(key=lambda place: len(rows[place][1]))
    count = max(1, _SLOTS // (batch.length + max((len(ids) for _, ids in rows), default=0)))
    for start in range(0, len(longer), count):
        yield longer[start : start + count]


def _rest(model: Any, cache: DecoderCache, rows: list[tuple[int, Ids]]) -> Tensor:
    """log p of all tokens but the first of each continuation [R]; the cache stays as it is."""
    length = max(len(ids) for _, ids in rows) - 1
    device = next(model.parameters()).device
    ids_RT = torch.tensor([list(ids[:-1]) + [0] * (length + 1 - len(ids)) for _, ids in rows], device=device)
    h_RTD = model(ids_RT, cache=cache.branch(torch.tensor([row for row, _ in rows], device=device)))
    where = [(row, column) for row, (_, ids) in enumerate(rows) for column in range(len(ids) - 1)]
    row_N, column_N = torch.tensor(where, device=device).T
    target_N = torch.tensor([id for _, ids in rows for id in ids[1:]], device=device)
    h_ND = h_RTD[row_N, column_N]
    total_R = torch.zeros(len(rows), dtype=torch.float32, device=device)
    count = max(1, _LOGITS // model.config.vocabulary)
    for start in range(0, len(target_N), count):
        part = slice(start, start + count)
        log_p_NV = model.output(h_ND[None, part])[0].float().log_softmax(-1)
        total_R.index_add_(0, row_N[part], log_p_NV.gather(1, target_N[part, None])[:, 0])
    return total_R


def _forward(model: Any, ids_BT: Tensor, cache: DecoderCache) -> Tensor:
    for start in range(0, ids_BT.shape[1], _CHUNK):
        h_BTD = model(ids_BT[:, start : start + _CHUNK], cache=cache)
    return h_BTD
