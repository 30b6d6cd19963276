"""Tagging by examples: each word takes the label of the example word whose state is nearest (NNShot).

label(w) = label(argmax over example words u of cos(h_w, h_u))      h_w = mean of the states of w's tokens
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from yuwen.errors import UserError
from yuwen.models.inference import refuse_not_finite
from yuwen.tasks.contract import Input, Usable, documents, place, tokenizer_of
from yuwen.tasks.ids import frame, framed
from yuwen.tasks.tagged import Tagged
from yuwen.tokens.pieces import STARTS_WORD

_OUTSIDE = ""


def tag_by_nearest_word(
    loaded: Usable, inputs: Iterable[Input], labels: Sequence[str], shots: Sequence[Tagged]
) -> Iterator[dict[str, Any]]:
    """Rows as `tag` gives them; a span's score is the mean cosine to the nearest example words."""
    words = _Words(loaded)
    known: list[Tensor] = []
    names: list[str] = []
    for number, shot in enumerate(shots, 1):
        states_WD, places = words(shot.text, f"example {number}")
        known.append(states_WD)
        names += [_label(shot, start, end, labels) for start, end in places]
    return _tag(words, inputs, torch.cat(known), names)


def _tag(words: _Words, inputs: Iterable[Input], known_ND: Tensor, names: list[str]) -> Iterator[dict[str, Any]]:
    for document in documents(inputs):
        states_WD, places = words(document.text, place(document))
        cosine_W, nearest_W = (states_WD @ known_ND.T).max(-1)
        spans: list[dict[str, Any]] = []
        for n, (start, end) in enumerate(places):
            label, score = names[int(nearest_W[n])], float(cosine_W[n])
            goes_on = bool(spans) and spans[-1]["last"] == n - 1 and spans[-1]["label"] == label
            if label == _OUTSIDE:
                continue
            if goes_on:
                spans[-1].update(end=end, last=n, scores=[*spans[-1]["scores"], score])
            else:
                spans.append({"start": start, "end": end, "label": label, "last": n, "scores": [score]})
        yield {
            "input": document.text,
            "spans": [
                {
                    **{key: span[key] for key in ("start", "end", "label")},
                    "text": document.text[span["start"] : span["end"]],
                    "score": sum(span["scores"]) / len(span["scores"]),
                }
                for span in spans
            ],
        }


class _Words:
    """The words of a text as an encoder sees them in context."""

    def __init__(self, loaded: Usable) -> None:
        self.loaded, self.tokenizer = loaded, tokenizer_of(loaded)
        self._starts_word = self.tokenizer.flags() & STARTS_WORD

    def __call__(self, text: str, where: str) -> tuple[Tensor, list[tuple[int, int]]]:
        """States [W, D] of length one, and the places (start, end) in characters, of all words."""
        ids, sizes = self.tokenizer.encode_bytes(text)
        if not len(ids):
            raise UserError(f"{where}: no words in this text to tag")
        whole, cut = framed(self.loaded, ids.tolist(), self.loaded.model.config.context)
        if cut:
            most = self.loaded.model.config.context
            raise UserError(f"{where}: longer than the {most} tokens this model reads: cut it into sentences")
        before = len(frame(self.loaded).before)
        h_TD = self.loaded.hidden(torch.tensor([whole]))[0, before : before + len(ids)].float()
        refuse_not_finite("states are", h_TD)
        first = [n for n in range(len(ids)) if n == 0 or self._starts_word[ids[n]]]
        bounds = list(zip(first, [*first[1:], len(ids)], strict=True))
        states_WD = torch.stack([h_TD[start:end].mean(0) for start, end in bounds])
        ends = np.cumsum(sizes)
        raw = text.encode()
        places = [_stripped(raw, int(ends[start] - sizes[start]), int(ends[end - 1])) for start, end in bounds]
        return F.normalize(states_WD, dim=-1), places


def _stripped(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """Bytes of a word → its characters without the white space around it."""
    piece = raw[start:end].decode("utf-8", "ignore")
    begin = len(raw[:start].decode("utf-8", "ignore")) + len(piece) - len(piece.lstrip())
    return begin, begin + len(piece.strip())


def _label(shot: Tagged, start: int, end: int, labels: Sequence[str]) -> str:
    """The label of the span that a word lies in."""
    inside = (span.label for span in shot.spans if span.start <= start < span.end and span.label in labels)
    return next(inside, _OUTSIDE)
