"""Encoder–decoders on the scale of the others. How depends on what they learnt to do, as the run says or, of a model
from elsewhere, the tokenizer shows.

    spans      T5 (sentinels)   source  a b <0> f g       target  <0> c d e
    infilling  BART (a mask)    source  a b [MASK] f g    target  a b c d e f g
    continued  all others       source  a b c             target  d e f g

Spans of three tokens are hidden in turn, each told token by token from both sides: a pseudo-likelihood, as that of
masked words is (`evaluation.pseudo`). What continues a beginning is told from what stands before it: a likelihood.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from yuwen.data import Frame
from yuwen.evaluation.part import LOGITS, Part
from yuwen.evaluation.pseudo import Hidden
from yuwen.evaluation.windows import Window
from yuwen.models import EncoderDecoder
from yuwen.tokens import Tokenizer

_SPAN = 3  # the mean span that both T5 and BART learnt to fill (Raffel et al. 2020, 3.1.4; Lewis et al. 2020, 2.2)
_SENTINEL = b"<extra_id_0>"


class Spans:
    """T5: the span alone is written, behind the sentinel that stands for it."""

    span = _SPAN

    def __init__(self, model: EncoderDecoder, tokenizer: Tokenizer, sentinel: int) -> None:
        self.model, self.hole, self.frame = model, sentinel, Frame.of(tokenizer, "pairs")
        self.room = len(self.frame.before) + len(self.frame.after)

    def nats(self, cases: Sequence[Hidden]) -> Tensor:
        hidden_BU = np.stack([case.view.ids[case.first : case.last] for case in cases])
        holes_B1 = np.full((len(hidden_BU), 1), self.hole)
        told_BU = np.concatenate([holes_B1, hidden_BU], axis=1)
        h_BUD = _read(self.model, with_hole(cases, self.frame, self.hole), told_BU)[:, 1:]
        return _nats(self.model, h_BUD, hidden_BU)


class Infilling:
    """BART: the whole text is written again, and the span counted."""

    span = _SPAN

    def __init__(self, model: EncoderDecoder, tokenizer: Tokenizer, mask: int) -> None:
        self.model, self.hole, self.frame = model, mask, Frame.of(tokenizer, "pairs")
        self.room = len(self.frame.before) + len(self.frame.after)

    def nats(self, cases: Sequence[Hidden]) -> Tensor:
        told_BT = np.stack([case.view.ids for case in cases])
        h_BTD = _read(self.model, with_hole(cases, self.frame, self.hole), told_BT)
        h_BUD = torch.stack([h_BTD[row, case.first : case.last] for row, case in enumerate(cases)])
        return _nats(self.model, h_BUD, np.stack([case.view.ids[case.first : case.last] for case in cases]))


def filler(model: EncoderDecoder, tokenizer: Tokenizer, learnt: str | None = None) -> Spans | Infilling | None:
    """How a model fills holes that `learnt` by that objective, if this is known; None if it never learnt to."""
    sentinel = next((id for id in tokenizer.special_ids if tokenizer.token_bytes(id) == _SENTINEL), None)
    if learnt == "prefix":  # its tokenizer may be another's
        return None
    if sentinel is not None and learnt != "denoising":
        return Spans(model, tokenizer, sentinel)
    return None if tokenizer.mask_id is None else Infilling(model, tokenizer, tokenizer.mask_id)


def continued(model: EncoderDecoder, tokenizer: Tokenizer, windows: Iterator[Window], batch: int) -> Iterator[Part]:
    """What each window scores, as the target of a source that holds what stands before."""
    frame = Frame.of(tokenizer, "pairs")
    room = max(1, model.config.context - len(frame.before) - len(frame.after))
    for _, equal in itertools.groupby(windows, key=lambda window: (len(window.ids), window.first)):
        while group := list(itertools.islice(equal, batch)):
            first = group[0].first
            source = np.stack(
                [np.concatenate([frame.before, one.ids[max(0, first - room) : first], frame.after]) for one in group]
            )
            told = np.stack([one.ids[first:] for one in group])
            nats = _nats(model, _read(model, source, told), told).sum(dtype=torch.float64)
            yield Part(float(nats), told.size, sum(one.bytes for one in group))


def with_hole(cases: Sequence[Hidden], frame: Frame, hole: int) -> np.ndarray:
    """The sources: each view with one token in place of what is hidden, [B, S]."""
    return np.stack(
        [
            np.concatenate([frame.before, case.view.ids[: case.first], [hole], case.view.ids[case.last :], frame.after])
            for case in cases
        ]
    )


def _read(model: EncoderDecoder, source: np.ndarray, told_BT: np.ndarray) -> Tensor:
    """Hidden states [B, T, D], each of what stands before the token that it is to tell."""
    device = next(model.parameters()).device
    opening_BO = np.tile(model.opening, (len(told_BT), 1))
    read = np.concatenate([opening_BO, told_BT[:, :-1]], axis=1)
    ids_BS, ids_BR = (torch.from_numpy(ids.astype(np.int64)).to(device) for ids in (source, read))
    return model(ids_BS, ids_BR)[:, len(model.opening) - 1 :]


def _nats(model: EncoderDecoder, h_BUD: Tensor, told_BU: np.ndarray) -> Tensor:
    targets_N = torch.from_numpy(told_BU.astype(np.int64)).flatten().to(h_BUD.device)
    rows = max(1, LOGITS // model.config.vocabulary)
    pieces = zip(h_BUD.flatten(0, 1).split(rows), targets_N.split(rows), strict=True)
    return torch.cat(
        [F.cross_entropy(model.output(h_nD[None])[0].float(), told_n, reduction="none") for h_nD, told_n in pieces]
    )
