"""Which documents are learnt from, and which are only measured."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from fractions import Fraction

from yuwen.data.corpus import Corpus
from yuwen.errors import UserError
from yuwen.text import Document


def split(train: Corpus, valid: float | str | Corpus) -> tuple[Corpus, Corpus]:
    """(training corpus, validation corpus), both streaming; the first pass over the text only counts.

    `valid` is a corpus of its own; the fraction that the last part of `train` makes up; or a share by hash, such as
    "hash:26/256": every document whose text, without the space around it, has a SHA-256 that read as a fraction of all
    hashes lies below the share. That choice depends on the text alone: a document is on the same side wherever it
    stands, in whatever corpus, however often. Where documents are text
    files the fraction counts characters, and the cut falls inside a file: of n characters the first int(n·(1−f)) train.
    Otherwise it counts documents (lines, records): of n the first int(n·(1−f)) train, so validation is rounded up.
    The validation text stays raw. Give it to `prepare(..., exclude=valid)` too, so that no copy of it is learnt.
    Raises UserError if the fraction or share leaves either side without text.
    """
    if isinstance(valid, Corpus):
        return train, valid
    if isinstance(valid, str):
        sides = by_hash(train, hash_share(valid))
        for side, what in zip(sides, ("all", "nothing"), strict=True):
            if next(iter(side.documents()), None) is None:  # read as far as its first document
                raise UserError(
                    f"data.valid={valid}: {what} of {train.name} would be held out; choose another share, or a fraction"
                )
        return sides
    if not 0 < valid < 1:
        raise UserError(f"data.valid={valid}: a fraction lies between 0 and 1, such as 0.05; or name a DATA")
    characters, documents, plain = _count(train)
    in_characters = train.files and plain
    total = characters if in_characters else documents
    cut = int(total * (1 - Fraction(repr(valid))))  # as it is written: in floating point 1 - 0.07 is less than 0.93
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


def hash_share(text: str) -> Fraction:
    """The share that "hash:26/256" or "hash:0.1" speaks of. UserError for anything else."""
    try:
        share = Fraction(text.removeprefix("hash:"))
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not (text.startswith("hash:") and 0 < share < 1):
        raise UserError(f"data.valid={text}: write hash: and a share between 0 and 1, such as hash:26/256 or hash:0.1")
    return share


def by_hash(corpus: Corpus, share: Fraction) -> tuple[Corpus, Corpus]:
    """(the documents whose hash is no smaller than a share, those whose hash is); either may be empty."""
    below = -(-share.numerator * 2**256 // share.denominator)

    def side(held_out: bool) -> Iterator[Document]:
        for document in corpus.documents():
            if document.closing == "none":
                raise UserError(
                    f"{document.source}: a share by hash needs documents that are lines or records, not long files"
                    "; give data.valid as a fraction, such as 0.05"
                )
            digest = hashlib.sha256(document.text.strip().encode()).digest()
            if (int.from_bytes(digest, "big") < below) == held_out:
                yield document

    return (
        dataclasses.replace(corpus, documents=lambda: side(False), identity=f"{corpus.identity}#>={share}"),
        dataclasses.replace(corpus, documents=lambda: side(True), identity=f"{corpus.identity}#<{share}"),
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
