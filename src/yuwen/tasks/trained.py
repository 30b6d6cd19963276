"""Which class a text is of, by the head that a model was trained with: softmax of its scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from yuwen.data.framing import Frame, padded
from yuwen.errors import UserError
from yuwen.models import Classifier
from yuwen.models.inference import inference, refuse_not_finite
from yuwen.tasks.batches import chunks, in_order, padded_batches
from yuwen.tasks.contract import Input, Usable, documents, place, tokenizer_of
from yuwen.text import Document

_CHUNK = 512
_TOKENS = 4096  # padded tokens of one batch
_LONGEST = 1 << 16  # ids of a text for a model that reads without end


@dataclass(frozen=True)
class Piece:
    """A text, or two, as the model reads it."""

    text: str
    pair: str | None
    ids: np.ndarray
    segments: np.ndarray | None
    cut: bool


def classify_by_head(loaded: Usable, model: Classifier, inputs: Iterable[Input]) -> Iterator[dict[str, Any]]:
    """`input`, `label`, and `scores`; and `cut`: true where the text was longer than the model reads.

    A record's field `pair` is the second text of a model that judges two together, and stands in its row.
    """
    reader = Reader(loaded, model)
    for chunk in chunks((reader.prepare(document) for document in documents(inputs)), _CHUNK):
        batches = padded_batches([len(piece.ids) for piece in chunk], _TOKENS)
        for piece, probabilities_L in zip(chunk, in_order(chunk, batches, reader.probabilities), strict=True):
            scores = dict(zip(model.config.labels, probabilities_L, strict=True))
            label = max(scores, key=lambda name: scores[name])
            asked = {"input": piece.text} if piece.pair is None else {"input": piece.text, "pair": piece.pair}
            yield {**asked, "label": label, "scores": scores, **({"cut": True} if piece.cut else {})}


def judged_of(document: Document) -> dict[str, Any]:
    """What a result says of its input: the text, and the second one where there is one."""
    return {"input": document.text, "pair": document.fields.get("pair")}


class Reader:
    """Texts to the probabilities of one model's classes."""

    def __init__(self, loaded: Usable, model: Classifier) -> None:
        self.model, self.tokenizer = model, tokenizer_of(loaded)
        self.frame = Frame.of(self.tokenizer, model.config.reads)
        self.length = min(model.config.context, _LONGEST)

    def prepare(self, document: Document) -> Piece:
        """Ids of one input. UserError for an empty one."""
        pair = document.fields.get("pair")
        if pair is not None and not isinstance(pair, str):
            raise UserError(f"{place(document)}:pair: the second text is not a string; quote it, or remove the row")
        text = np.array(self.tokenizer.encode(document.text.strip()), np.int64)
        if not len(text):
            raise UserError(f"{place(document)}: an empty text is of no class; remove it")
        other = None if pair is None else np.array(self.tokenizer.encode(pair.strip()), np.int64)
        ids, segments = self.frame(text, other, self.length)
        whole, _ = self.frame(text, other, len(text) + len(ids) + (0 if other is None else len(other)))
        return Piece(document.text, pair, ids, None if other is None else segments, len(ids) < len(whole))

    def probabilities(self, pieces: list[Piece]) -> list[list[float]]:
        """Of every class, for each text: [B][L]."""
        longest = max(len(piece.ids) for piece in pieces)
        ids, keep = map(torch.from_numpy, padded([piece.ids for piece in pieces], self.frame.pad, longest))
        segments = None
        if any(piece.segments is not None for piece in pieces):
            of = [np.zeros_like(piece.ids) if piece.segments is None else piece.segments for piece in pieces]
            segments = torch.from_numpy(padded(of, 0, longest)[0])
        with inference(self.model):
            scores_BL = self.model.classify(ids, keep, segments).float()
        refuse_not_finite("scores are", scores_BL)
        return scores_BL.softmax(-1).tolist()
