"""Spans of a text by their kind (names, diseases, dates …), with no training.

A decoder is asked for each label in turn and may only copy from the text (`copying`), so every span it names has a
place. An encoder needs tagged examples: each word takes the label of the example word whose state in context is nearest
(Yang and Katiyar 2020, Simple and Effective Few-Shot Named Entity Recognition, section 4.1: NNShot).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yuwen.errors import UserError
from yuwen.tasks.contract import Input, Usable, documents, need_decoder, place, refuse, tokenizer_of
from yuwen.tasks.copying import Copier, copy, ends, occurrences, step
from yuwen.tasks.ids import asked
from yuwen.tasks.language import known
from yuwen.tasks.nearest_word import tag_by_nearest_word
from yuwen.tasks.prompts import Prompt, language_for
from yuwen.tasks.reading import Read, read
from yuwen.tasks.shots import distinct
from yuwen.tasks.tagged import Tagged, tagged
from yuwen.text import Document

NONE = {"zh": "无", "en": "none"}
"""What a prompt's examples say where a text holds no such span."""

_SEPARATORS = ",;，；、"
_ENDS = f"\n{_SEPARATORS}。.!?！？"
_BREAKS = rf"[\n{_SEPARATORS}。!?！？]|\.(?=\s|$)"  # a span stays within a sentence and an enumeration
_LONGEST = 24  # tokens of one span
_MOST = 32  # spans of one label in a text


def tag(
    loaded: Usable,
    inputs: Iterable[Input],
    *,
    labels: Sequence[str] | None = None,
    shots: Iterable[Document] | None = None,
    raw: bool | None = None,
    prompt: str | Path | None = None,
    language: str | None = None,
) -> Iterator[dict[str, Any]]:
    """`input`, `spans`: `start` and `end` in characters, `label`, `text`, `score`, in the order of the text.

    `shots` are tagged texts: CoNLL columns, or rows with text and `spans`. `labels` default to theirs.
    """
    found = [] if shots is None else tagged(shots)
    borne = dict.fromkeys(span.label for shot in found for span in shot.spans)
    names = distinct(borne if labels is None else labels)
    if not names:
        raise UserError("tag needs to know what to look for: --labels person,place, or --shots with tagged texts")
    if loaded.encoder:
        refuse("tag", "an encoder", raw=raw, prompt=prompt, language=language)
        if not found:
            raise UserError(f"{loaded.path}: an encoder tags by examples: give --shots, a file of tagged texts")
        unknown = next((name for name in names if name not in borne), None)
        if unknown is not None:
            raise UserError(f"label {unknown!r} is in no example, so an encoder cannot find it: add one, or drop it")
        return tag_by_nearest_word(loaded, inputs, names, found)
    need_decoder(loaded, "tag")
    tagger = _Tagger(loaded, names, found, Prompt.of("tag", prompt), bool(raw), known(language))
    return ({"input": document.text, "spans": tagger(document)} for document in documents(inputs))


@dataclass
class _Tagger:
    loaded: Usable
    labels: Sequence[str]
    shots: Sequence[Tagged]
    prompt: Prompt
    raw: bool
    language: str | None

    def __call__(self, document: Document) -> list[dict[str, Any]]:
        text = document.text
        language = language_for(text, self.language)
        prompts = []
        for label in self.labels:
            shots = [{"text": shot.text, "found": shot.of(label) or [NONE[language]]} for shot in self.shots]
            filled = self.prompt.render(language, text=text, label=label, labels=self.labels, examples=shots)
            prompts.append(asked(self.loaded, filled, raw=self.raw, where=place(document), room=_LONGEST))
        # "none" stands behind the text as one more thing to copy
        copier = Copier(tokenizer_of(self.loaded), f"{text}\n{NONE[language]}", breaks=_BREAKS)
        spans = []
        for batch in read(self.loaded.model, prompts):
            for row, number in enumerate(batch.places):
                for piece, score in self._copies(batch, row, copier, NONE[language]):
                    label = self.labels[number]
                    spans += [
                        {"start": start, "end": end, "label": label, "text": piece, "score": score}
                        for start, end in occurrences(text, piece)
                    ]
        return sorted(spans, key=lambda span: (span["start"], span["end"]))

    def _copies(self, batch: Read, row: int, copier: Copier, none: str) -> Iterator[tuple[str, float]]:
        """What the model lists after one prompt: pieces of the text with their scores, none twice."""
        tokenizer = tokenizer_of(self.loaded)
        end_ids, separators = ends(tokenizer, self.loaded.end_ids, _ENDS), ends(tokenizer, (), _SEPARATORS)
        room = self.loaded.model.config.context
        cache = batch.cache.branch(torch.tensor([row]))
        log_p_V = batch.logits_BV[row].float().log_softmax(-1)
        found: set[str] = set()
        while len(found) < _MOST and cache.length + _LONGEST < room:
            piece = copy(self.loaded, cache, log_p_V, copier, end_ids, _LONGEST, empty=True)
            if piece is None or piece.ended_by is None or piece.text == none or piece.text in found:
                return  # a copy that nothing ended is no name
            found.add(piece.text)
            yield piece.text, piece.score
            if piece.ended_by not in separators:
                return
            log_p_V = step(self.loaded, cache, piece.ended_by)
