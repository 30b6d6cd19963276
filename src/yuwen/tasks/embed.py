"""Texts as vectors: token states pooled into one, by the sentence encoder's own settings.

    mean   e = sum_t h_t / T        cls   e = h_1        max   e_d = max_t h_td
    normalised                      e / |e|

An encoder reads [CLS] text [SEP], cut to the length its folder states; the frame's states are pooled too (Reimers and
Gurevych 2019, section 3). A decoder's states are pooled by their mean, and those of an encoder–decoder's encoder; they
were never trained for that, and their vectors compare poorly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from yuwen.data.framing import Frame
from yuwen.errors import UserError
from yuwen.generation import prompt_ids
from yuwen.models.inference import refuse_not_finite
from yuwen.tasks.batches import chunks, in_order, padded_batches
from yuwen.tasks.contract import Input, Pooling, Usable, documents, place, tokenizer_of
from yuwen.tasks.ids import fits, framed

_CHUNK = 512
_TOKENS = 4096  # padded tokens of one batch


@dataclass(frozen=True)
class Mean:
    """The pooling of a folder that states none."""

    length: int
    mode: str = "mean"
    normalize: bool = True
    lower: bool = False


@dataclass(frozen=True)
class Piece:
    """A text as the model reads it."""

    text: str
    ids: list[int]
    cut: bool


def embed(loaded: Usable, inputs: Iterable[Input], *, pooling: Pooling | None = None) -> Iterator[dict[str, Any]]:
    """`input`, `embedding`; and `cut`: true where the text was longer than the model reads.

    `pooling` is the one published with the model; without it the mean, normalised.
    """
    embedder = Embedder(loaded, pooling)
    prepared = (embedder.prepare(document.text, place(document)) for document in documents(inputs))
    for chunk in chunks(prepared, _CHUNK):
        for piece, vector_D in zip(chunk, embedder(chunk), strict=True):
            yield {"input": piece.text, "embedding": vector_D.tolist(), **({"cut": True} if piece.cut else {})}


class Embedder:
    """Texts to vectors [D] of one model, in batches of like length."""

    def __init__(self, loaded: Usable, pooling: Pooling | None = None) -> None:
        self.loaded, self.tokenizer = loaded, tokenizer_of(loaded)
        if loaded.model.config.COUNTS:
            raise UserError(f"a {loaded.family} looks counts up and has no vectors: give an encoder, or another family")
        context = loaded.model.config.context
        self.pooling = pooling or Mean(context)
        if self.pooling.mode not in _POOL:
            raise UserError(f"pooling {self.pooling.mode!r} is not one of {', '.join(_POOL)}")
        self.length = min(self.pooling.length, context)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors [N, D] of texts."""
        return self([self.prepare(text, f"text {number}") for number, text in enumerate(texts, 1)])

    def prepare(self, text: str, where: str) -> Piece:
        """Ids of one text; an encoder's are cut to its length. UserError for a decoder's that do not fit."""
        if self.loaded.encoder:
            written = text.lower() if self.pooling.lower else text
            ids, cut = framed(self.loaded, self.tokenizer.encode(written), self.length)
        else:
            ids, cut = self._prompt(text), False
            fits(self.loaded, len(ids), where)
        if not ids:
            raise UserError(f"{where}: an empty text has no embedding")
        return Piece(text, ids, cut)

    def _prompt(self, text: str) -> list[int]:
        """A text as a decoder reads it, or framed as the source of an encoder–decoder."""
        if self.loaded.model.config.reads != "pairs":
            return prompt_ids(text, self.tokenizer, chat=False)
        frame = Frame.of(self.tokenizer, "pairs")
        return [*frame.before, *self.tokenizer.encode(text), *frame.after]

    def __call__(self, pieces: Sequence[Piece]) -> Tensor:
        """Vectors [N, D] (float32), normalised if the pooling says so."""
        batches = padded_batches([len(piece.ids) for piece in pieces], _TOKENS)
        vectors_ND = torch.stack(in_order(list(pieces), batches, self._batch))
        refuse_not_finite("vectors are", vectors_ND)
        return torch.nn.functional.normalize(vectors_ND, dim=-1) if self.pooling.normalize else vectors_ND

    def _batch(self, pieces: list[Piece]) -> Tensor:
        length = max(len(piece.ids) for piece in pieces)
        ids_BT = torch.tensor([piece.ids + [0] * (length - len(piece.ids)) for piece in pieces])
        keep_BT = torch.arange(length)[None] < torch.tensor([len(piece.ids) for piece in pieces])[:, None]
        h_BTD = self.loaded.hidden(ids_BT, None if bool(keep_BT.all()) else keep_BT).float()
        return _POOL[self.pooling.mode](h_BTD, keep_BT.to(h_BTD.device))


def _mean(h_BTD: Tensor, keep_BT: Tensor) -> Tensor:
    return (h_BTD * keep_BT[..., None]).sum(1) / keep_BT.sum(1, keepdim=True)


def _cls(h_BTD: Tensor, keep_BT: Tensor) -> Tensor:
    return h_BTD[:, 0]


def _max(h_BTD: Tensor, keep_BT: Tensor) -> Tensor:
    return h_BTD.masked_fill(~keep_BT[..., None], -torch.inf).amax(1)


_POOL = {"mean": _mean, "cls": _cls, "max": _max}
