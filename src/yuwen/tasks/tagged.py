"""Texts whose spans someone has tagged."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from yuwen.errors import UserError
from yuwen.tasks.contract import place
from yuwen.text import Document

_TAG = re.compile(r"O|[BIESMLU][-_].*\S.*")


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` (not included), and what they are."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Tagged:
    """A text with its spans, in order."""

    text: str
    spans: tuple[Span, ...]

    def of(self, label: str) -> list[str]:
        """The pieces of the text that bear a label, each once."""
        return list(dict.fromkeys(self.text[span.start : span.end] for span in self.spans if span.label == label))


def tagged(rows: Iterable[Document]) -> list[Tagged]:
    """Rows with `tokens` and `tags` (word and tag columns), or with `spans`: [{"start", "end", "label"}].

    UserError for others, and for tags or spans that are not those of the text.
    """
    found = [_from_columns(row) if {"tokens", "tags"} <= row.fields.keys() else _from_spans(row) for row in rows]
    if not found:
        raise UserError("no examples: the file of shots is empty")
    return found


def _from_spans(row: Document) -> Tagged:
    spans = row.fields.get("spans")
    if not isinstance(spans, list):
        raise UserError(
            f'{place(row)}: this example is not tagged: write "tokens" and their "tags", or "spans": '
            '[{"start": 0, "end": 2, "label": "place"}]'
        )
    return Tagged(row.text, tuple(sorted((_span(row, span) for span in spans), key=lambda span: span.start)))


def _span(row: Document, span: Any) -> Span:
    if isinstance(span, dict):
        start, end, label = span.get("start"), span.get("end"), span.get("label")
        if (
            isinstance(start, int)
            and isinstance(end, int)
            and isinstance(label, str)
            and label.strip()
            and 0 <= start < end <= len(row.text)
        ):
            return Span(start, end, label)
    raise UserError(f"{place(row)}: {span!r} is no span of this text: write start, end (characters) and label")


def _from_columns(row: Document) -> Tagged:
    """BIO, BIOES and BILOU tags: a span begins with B, S or U, or where the label changes, and goes on to the next."""
    tokens, tags = row.fields["tokens"], row.fields["tags"]
    if not (_words(tokens) and _words(tags) and len(tokens) == len(tags)):
        raise UserError(f"{place(row)}: tokens and tags are not two lists of words: write one tag for each token")
    spans: list[Span] = []
    at, open_ = 0, False
    for token, tag in zip(tokens, tags, strict=True):
        start = row.text.find(token, at)
        if start < 0:
            raise UserError(f"{place(row)}: the token {token!r} is not in the text: write its own, in their order")
        at = start + len(token)
        if not _TAG.fullmatch(tag):
            raise UserError(f"{place(row)}: {tag!r} is no tag for {token!r}: write B-NAME, I-NAME, or O for nothing")
        mark, label = tag[0], tag[2:]
        if mark == "O":
            open_ = False
        elif open_ and mark not in "BSU" and spans[-1].label == label:
            spans[-1] = Span(spans[-1].start, at, label)
        else:
            spans.append(Span(start, at, label))
            open_ = True
    return Tagged(row.text, tuple(spans))


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word for word in value)
