"""Corpora in memory."""

from __future__ import annotations

from collections.abc import Sequence

from yuwen.data import Corpus
from yuwen.text import Document


def memory(documents: Sequence[Document], files: bool = False) -> Corpus:
    return Corpus("memory", lambda: iter(documents), repr(documents), files)


def lines(texts: Sequence[str]) -> list[Document]:
    return [Document(text, "memory", number, "line") for number, text in enumerate(texts, 1)]
