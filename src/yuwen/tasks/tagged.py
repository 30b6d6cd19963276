"""Texts whose spans someone has tagged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from yuwen.errors import UserError
from yuwen.tasks.contract import place
from yuwen.text import Document


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
    """Rows of word and tag columns, or with a text and `spans` [{"start", "end", "label"}]. UserError for others."""
    found = [_from_columns(row) if "tags" in row.fields else _from_spans(row) for row in rows]
    if not found:
        raise UserError("no examples: the file of shots is empty")
    return found


def _from_spans(row: Document) -> Tagged:
    spans = row.fields.get("spans")
    if not isinstance(spans, list):
        raise UserError(
            f'{place(row)}: no tags in this example: write word and tag columns, or "spans": '
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
            and 0 <= start < end <= len(row.text)
        ):
            return Span(start, end, label)
    raise UserError(f"{place(row)}: {span!r} is no span of this text: write start, end (characters) and label")


def _from_columns(row: Document) -> Tagged:
    """BIO, BIOES and BILOU tags: a span begins with B, S or U, or where the label changes, and goes on to the next."""
    spans: list[Span] = []
    at, open_ = 0, False
    for token, tag in zip(row.fields["tokens"], row.fields["tags"], strict=True):
        start = row.text.index(token, at)
        at = start + len(token)
        if not tag:
            raise UserError(f"{place(row)}: {token!r} has no tag: write O where there is nothing to find")
        mark, label = tag[0], tag[2:]
        if mark == "O":
            open_ = False
        elif open_ and mark not in "BSU" and spans[-1].label == label:
            spans[-1] = Span(spans[-1].start, at, label)
        else:
            spans.append(Span(start, at, label))
            open_ = True
    return Tagged(row.text, tuple(spans))
