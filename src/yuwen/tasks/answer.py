"""Questions answered from a text that is given: the answer is a piece of it.

A decoder reads text and question and copies its answer out of the text (`copying`). A text longer than `window` tokens
is read in overlapping windows of lines and sentences; of their answers that with the highest mean log-probability per
token wins. An encoder cannot point at words without training: it names the sentence whose embedding is nearest to the
question's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from yuwen.errors import UserError
from yuwen.tasks.contract import Input, Pooling, Usable, documents, need_decoder, place, refuse, tokenizer_of
from yuwen.tasks.copying import Copier, Copy, copy, ends
from yuwen.tasks.embed import Embedder
from yuwen.tasks.ids import asked
from yuwen.tasks.language import known
from yuwen.tasks.prompts import Prompt, language_for
from yuwen.tasks.reading import read
from yuwen.text import Document

_WINDOW = 512  # tokens of text read at once, where the context has room for them
_LONGEST = 48  # tokens of an answer
_SENTENCE_END = re.compile(r"[。！？!?\n]+[”’」』）)\"']*|\.+[\"')]*(?=\s)")


def answer(
    loaded: Usable,
    inputs: Iterable[Input],
    *,
    context: str | None = None,
    window: int | None = None,
    raw: bool | None = None,
    prompt: str | Path | None = None,
    language: str | None = None,
    pooling: Pooling | None = None,
) -> Iterator[dict[str, Any]]:
    """`input` (the question), `answer`, `start` and `end` (characters of the context), and how sure the model is.

    Inputs are questions about `context`, or rows that carry `context` and `question` of their own: then `context_hash`,
    the beginning of its SHA-256, tells which one was read. From a decoder: `probability` of the answer's tokens and of
    its end, and `score`, their geometric mean; from an encoder: `score`, the cosine. `answer` is null where nothing can
    be copied.
    """
    if loaded.encoder:
        refuse("answer", "an encoder", window=window, raw=raw, prompt=prompt, language=language)
        return _nearest_sentences(Embedder(loaded, pooling), inputs, context)
    need_decoder(loaded, "answer")
    refuse("answer", "a decoder", pooling=pooling)
    if window is not None and window < 16:
        raise UserError(f"window={window}: a window has 16 tokens at least")
    reader = _Reader(loaded, Prompt.of("answer", prompt), window or _WINDOW, bool(raw), known(language))
    return (reader(document, context) for document in documents(inputs))


def asked_of(document: Document) -> dict[str, Any]:
    """What a result says of its input: the question, and of a context of the input's own which one it was."""
    if not _carries_context(document):
        return {"input": document.text}
    digest = hashlib.sha256(document.fields["context"].encode()).hexdigest()
    return {"input": document.fields["question"], "context_hash": digest[:16]}


def _carries_context(document: Document) -> bool:
    return all(isinstance(document.fields.get(name), str) for name in ("question", "context"))


def _context_of(document: Document, given: str | None) -> str:
    own = _carries_context(document)
    if own and given is not None:
        raise UserError(f"{place(document)}: this row has a context of its own: leave --context out")
    context = str(document.fields["context"]) if own else given
    if context is None:
        raise UserError(f"{place(document)}: nothing to answer from: --context FILE, or rows with question and context")
    if not context.strip():
        raise UserError(f"{place(document)}: the context is empty")
    return context


@dataclass
class _Reader:
    loaded: Usable
    prompt: Prompt
    window: int
    raw: bool
    language: str | None

    def __call__(self, document: Document, given: str | None) -> dict[str, Any]:
        row, context = asked_of(document), _context_of(document, given)
        question = row["input"]
        language = language_for(question, self.language)
        bare = self.prompt.render(language, text="", question=question)
        room = len(asked(self.loaded, bare, raw=self.raw, where=place(document), room=_LONGEST + 16)) + _LONGEST
        # 8: at its borders a window may be cut into other tokens than within the prompt
        size = min(self.window, self.loaded.model.config.context - room - 8)
        best, at = None, 0
        for start, end in windows(tokenizer_of(self.loaded), context, size):
            text = context[start:end]
            filled = self.prompt.render(language, text=text, question=question)
            found = self._copy(asked(self.loaded, filled, raw=self.raw, where=place(document), room=_LONGEST), text)
            if found is not None and (best is None or found.score > best.score):
                best, at = found, start
        if best is None:
            return {**row, "answer": None}
        return {
            **row,
            "answer": best.text,
            "start": at + best.start,
            "end": at + best.end,
            "probability": best.probability,
            "score": best.score,
        }

    def _copy(self, ids: list[int], text: str) -> Copy | None:
        tokenizer = tokenizer_of(self.loaded)
        batch = next(read(self.loaded.model, [ids]))
        log_p_V = batch.logits_BV[0].float().log_softmax(-1)
        end_ids = ends(tokenizer, self.loaded.end_ids)
        return copy(self.loaded, batch.cache, log_p_V, Copier(tokenizer, text), end_ids, _LONGEST, empty=False)


def windows(tokenizer: Any, text: str, size: int) -> Iterator[tuple[int, int]]:
    """Places (start, end) in characters of windows of at most `size` tokens, each begun half a window on.

    They begin and end between sentences, where a sentence is no longer than half a window.
    """
    pieces = [piece for sentence in sentences(text) for piece in _short(tokenizer, text, sentence, max(1, size // 2))]
    first = 0
    while first < len(pieces):
        last, tokens = first, 0
        while last < len(pieces) and (tokens + pieces[last][2] <= size or last == first):
            tokens += pieces[last][2]
            last += 1
        yield pieces[first][0], pieces[last - 1][1]
        if last == len(pieces):
            return
        half, tokens = first, 0
        while tokens < size // 2 and half < last - 1:
            tokens += pieces[half][2]
            half += 1
        first = max(half, first + 1)


def sentences(text: str) -> list[tuple[int, int]]:
    """Places (start, end) in characters of the sentences of a text, each with its mark; blank ones left out."""
    cuts = [match.end() for match in _SENTENCE_END.finditer(text)]
    bounds = zip([0, *cuts], [*cuts, len(text)], strict=True)
    return [(start, end) for start, end in bounds if text[start:end].strip()]


def _short(tokenizer: Any, text: str, sentence: tuple[int, int], most: int) -> Iterator[tuple[int, int, int]]:
    """The sentence as (start, end, tokens), cut in halves until none has more than `most`."""
    start, end = sentence
    tokens = len(tokenizer.encode(text[start:end]))
    if tokens <= most or end - start < 2:
        yield start, end, tokens
        return
    middle = (start + end) // 2
    space = text.rfind(" ", start + 1, middle)
    middle = space + 1 if space > start else middle
    yield from _short(tokenizer, text, (start, middle), most)
    yield from _short(tokenizer, text, (middle, end), most)


def _nearest_sentences(embedder: Embedder, inputs: Iterable[Input], given: str | None) -> Iterator[dict[str, Any]]:
    read_: str | None = None  # the context whose sentences are embedded
    places: list[tuple[int, int]] = []
    states_ND = torch.empty(0)
    for document in documents(inputs):
        row, context = asked_of(document), _context_of(document, given)
        if context != read_:
            places, read_ = sentences(context), context
            states_ND = F.normalize(embedder.texts([context[start:end] for start, end in places]), dim=-1)
        cosine_N = states_ND @ F.normalize(embedder([embedder.prepare(row["input"], place(document))])[0], dim=-1)
        best = int(cosine_N.argmax())
        start, end = places[best]
        piece = context[start:end]
        start, end = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
        score = float(cosine_N[best])
        yield {**row, "answer": context[start:end], "start": start, "end": end, "score": score}
