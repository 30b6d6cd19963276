"""Models that read both sides, on the scale of those that read forwards: each part of a text hidden in turn.

    pseudo-loss          = - 1/N  sum_n log p(t_n | all of the window but t_n)        nats per token
    pseudo-bits per byte = - sum_n log p(t_n | all of the window but t_n) / (ln 2 · UTF-8 bytes of the scored text)

(Salazar et al. 2020, eq. 1 and section 2.) The factors are conditionals of no one joint distribution, so the sum is no
likelihood: what stands after a token helps to tell it, and the number comes out lower than an honest left-to-right one.
Among masked models it ranks; between the two kinds it does not. `Score.pseudo` says which of the two a number is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from yuwen.data.framing import Frame
from yuwen.errors import UserError
from yuwen.evaluation.part import Part
from yuwen.evaluation.tokens import Tokens
from yuwen.models import Encoder
from yuwen.tokens import Tokenizer


@dataclass(frozen=True)
class View:
    """Tokens `ids` [n] that are seen together, of which those from `first` to before `last` are scored here."""

    ids: np.ndarray
    sizes: np.ndarray
    first: int
    last: int


@dataclass(frozen=True)
class Hidden:
    """A view of which the tokens from `first` to before `last` are to be told from the others."""

    view: View
    first: int
    last: int

    @property
    def shape(self) -> tuple[int, int]:
        """Cases of one shape make a batch without padding."""
        return len(self.view.ids), self.last - self.first

    @property
    def bytes(self) -> int:
        return int(self.view.sizes[self.first : self.last].sum())


class Teller(Protocol):
    """How a family tells what is hidden: `span` tokens at a time, `room` of the context taken by its own marks."""

    span: int
    room: int

    def nats(self, cases: Sequence[Hidden]) -> Tensor:
        """-log p of every hidden token of cases of one shape, in fp32, [...]."""
        ...


class MaskedWord:
    """An encoder with a masked-word head: [CLS] a b [MASK] d [SEP], and the score of c at the mask."""

    span = 1

    def __init__(self, model: Encoder, tokenizer: Tokenizer) -> None:
        if "masked" not in model.heads:
            raise UserError(
                f"this {model.config.MODEL_TYPE} has no masked-word head, so it gives no word a probability: evaluate "
                "one that has (BertForMaskedLM, RobertaForMaskedLM …)"
            )
        if tokenizer.mask_id is None:
            raise UserError("the tokenizer names no mask token, so nothing can be hidden from the model")
        self.model, self.mask = model, tokenizer.mask_id
        frame = Frame.of(tokenizer, "both", partial=True)
        self.before, self.after = frame.before, frame.after
        self.room = len(self.before) + len(self.after)

    def nats(self, cases: Sequence[Hidden]) -> Tensor:
        device = next(self.model.parameters()).device
        ids_BT = torch.tensor(
            np.stack([np.concatenate([self.before, case.view.ids, self.after]) for case in cases]), dtype=torch.long
        ).to(device)
        rows_B = torch.arange(len(cases), device=device)
        at_B = torch.tensor([len(self.before) + case.first for case in cases], device=device)
        targets_B = ids_BT[rows_B, at_B]
        ids_BT[rows_B, at_B] = self.mask
        h_BD = self.model(ids_BT)[rows_B, at_B]
        return F.cross_entropy(self.model.output(h_BD[None])[0].float(), targets_B, reduction="none")


def views(tokens: Iterable[Tokens], window: int, stride: int) -> Iterator[View]:
    """Views of `window` tokens that begin every `stride`; each token is scored once, in the middle of its view.

        stride 2    a b c d e f              scored: a b c d
        window 6        c d e f g h                      e f
                            e f g h i                        g h i

    So it has at least (window - stride) // 2 tokens before it, except at the start, and about as many after it, except
    at the end.
    """
    ids, sizes = np.empty(0, np.int32), np.empty(0, np.int32)
    margin = (window - stride) // 2
    scored = 0  # index, within what is held, of the first token not yet scored
    for part in tokens:
        ids, sizes = np.concatenate((ids, part.ids)), np.concatenate((sizes, part.sizes))
        begin = 0
        while len(ids) - begin > window:
            end = begin + window
            yield View(ids[begin:end], sizes[begin:end], scored, margin + stride)
            begin += stride
            scored = margin
        ids, sizes = ids[begin:], sizes[begin:]
    if scored < len(ids):
        yield View(ids, sizes, scored, len(ids))


def hidden(views: Iterable[View], span: int, special: frozenset[int], every: int = 1) -> Iterator[Hidden]:
    """What is to be told, `span` tokens at a time, no special token among them; of all that only each `every`-th."""
    count = itertools.count()
    for view in views:
        plain = ~np.isin(view.ids, list(special))
        at = view.first
        while at < view.last:
            end = at
            while end < min(at + span, view.last) and plain[end]:
                end += 1
            if end > at and next(count) % every == 0:
                yield Hidden(view, at, end)
            at = max(end, at + 1)


def batches(cases: Iterable[Hidden], batch: int) -> Iterator[list[Hidden]]:
    """Up to `batch` cases of one shape at a time, in order."""
    for _, equal in itertools.groupby(cases, key=lambda case: case.shape):
        while group := list(itertools.islice(equal, batch)):
            yield group


def told(
    teller: Teller,
    tokens: Iterable[Tokens],
    special: frozenset[int],
    window: int,
    stride: int,
    batch: int,
    every: int = 1,
) -> Iterator[Part]:
    """The stream's score, as it flows by: `batch` forward passes at a time of at most `window` tokens each."""
    seen = window - teller.room
    if seen <= teller.span:
        raise UserError(f"window={window}: leaves nothing to tell a token from; choose a larger one")
    if every < 1:
        raise UserError(f"every={every}: every token is 1, each second one 2")
    for cases in batches(hidden(views(tokens, seen, min(stride, seen)), teller.span, special, every), batch):
        nats = float(teller.nats(cases).sum(dtype=torch.float64))
        yield Part(nats, sum(case.last - case.first for case in cases), sum(case.bytes for case in cases))
