"""Which documents are learnt from, and which are only measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from yuwen.data.corpus import Corpus
from yuwen.errors import UserError
from yuwen.text import Document


def split(train: Corpus, valid: float | Corpus) -> tuple[Corpus, Corpus]:
    """(training corpus, validation corpus), both streaming; the first pass over the text only counts.

    `valid` is a corpus of its own, or the fraction that the last part of `train` makes up. Where documents are text
    files the fraction counts characters, and the cut falls inside a file: of n characters the first int(n·(1−f)) train.
    Otherwise it counts documents (lines, records): of n the first int(n·(1−f)) train, so validation is rounded up.
    The validation text stays raw. Give it to `prepare(..., exclude=valid)` too, so that no copy of it is learnt.
    Raises UserError if the fraction leaves either side without text.
    """
    if isinstance(valid, Corpus):
        return train, valid
    if not 0 < valid < 1:
        raise UserError(f"data.valid={valid}: a fraction lies between 0 and 1, such as 0.05; or name a DATA")
    characters, documents, plain = _count(train)
    in_characters = train.files and plain
    total = characters if in_characters else documents
    cut = int(total * (1 - valid))
    if not 0 < cut < total:
        unit = "characters" if in_characters else "documents"
        raise UserError(
            f"data.valid={valid}: {train.name} has only {total} {unit}, one side would be empty"
            "; choose another fraction or name a DATA"
        )
    head, tail = (_head_characters, _tail_characters) if in_characters else (_head_documents, _tail_documents)
    return (
        dataclasses.replace(train, documents=lambda: head(train.documents(), cut), identity=f"{train.identity}<{cut}"),
        dataclasses.replace(train, documents=lambda: tail(train.documents(), cut), identity=f"{train.identity}>{cut}"),
    )


def _count(corpus: Corpus) -> tuple[int, int, bool]:
    """Characters, documents, and whether no document carries fields (a .txt of CoNLL columns holds records)."""
    characters, documents, plain = 0, 0, True
    for document in corpus.documents():
        characters += len(document.text)
        documents += document.closing != "none"
        plain = plain and not document.fields
    return characters, documents, plain


def _head_characters(documents: Iterator[Document], cut: int) -> Iterator[Document]:
    for document in documents:
        if len(document.text) >= cut:  # what is cut off counts as whole: an end token closes the training text
            yield dataclasses.replace(document, text=document.text[:cut], closing="end")
            return
        cut -= len(document.text)
        yield document


def _tail_characters(documents: Iterator[Document], cut: int) -> Iterator[Document]:
    for document in documents:
        if cut and cut >= len(document.text):
            cut -= len(document.text)
            continue
        if cut:
            lines = document.text.count("\n", 0, cut)
            document = dataclasses.replace(document, text=document.text[cut:], line=document.line + lines)
            cut = 0
        yield document


def _head_documents(documents: Iterator[Document], cut: int) -> Iterator[Document]:
    for document in documents:
        yield document
        cut -= document.closing != "none"
        if not cut:
            return


def _tail_documents(documents: Iterator[Document], cut: int) -> Iterator[Document]:
    for document in documents:
        if not cut:
            yield document
        else:
            cut -= document.closing != "none"
