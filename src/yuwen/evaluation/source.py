"""DATA as `evaluate` takes it: all of it, or the part that a recipe's `data.valid` held out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from yuwen.errors import UserError
from yuwen.text import Document

if TYPE_CHECKING:
    from yuwen.data import Corpus

_TAIL = re.compile(r"(?P<data>.+)\[(?P<percent>\d+(?:\.\d+)?)%:\]", re.DOTALL)
_HASH = re.compile(r"(?P<data>.+)\[(?P<share>hash:[^\]]+)\]", re.DOTALL)


def documents_of(data: str, *, field: str | None = None, encoding: str | None = None) -> Iterator[Document]:
    """The documents of DATA, of `DATA[95%:]`, or of `DATA[hash:26/256]`, streaming; see `corpus_of`."""
    from yuwen.text import read

    if not is_part(data):
        return read(data, field=field, encoding=encoding)
    return corpus_of(data, field=field, encoding=encoding).documents()


def is_part(data: str) -> bool:
    """Whether a DATA names a part of another: `DATA[95%:]`, `DATA[hash:26/256]`."""
    return bool(_TAIL.fullmatch(data) or _HASH.fullmatch(data))


def corpus_of(data: str, *, field: str | None = None, encoding: str | None = None) -> Corpus:
    """The corpus of DATA; of `DATA[95%:]`, what `data.valid=0.05` holds out of it; of `DATA[hash:26/256]`, what
    `data.valid=hash:26/256` does.

    A share is counted as `yuwen.data.split` counts it: in characters where the documents are text files, else in
    documents, the first int(n · 95 %) left out. UserError for a share that leaves nothing.
    """
    from yuwen.data import by_hash, corpus, hash_share, split

    if (hashed := _HASH.fullmatch(data)) is not None:
        part = by_hash(corpus(hashed["data"], field=field, encoding=encoding), hash_share(hashed["share"]))[1]
        if next(iter(part.documents()), None) is None:
            raise UserError(f"{data}: no document of {hashed['data']} has a hash below that share")
        return part
    if (tail := _TAIL.fullmatch(data)) is None:
        return corpus(data, field=field, encoding=encoding)
    percent = Fraction(tail["percent"])
    if percent >= 100:
        raise UserError(f"{data}: from {tail['percent']} % on nothing is left; begin below 100 %, such as [95%:]")
    whole = corpus(tail["data"], field=field, encoding=encoding)
    if percent == 0:
        return whole
    return split(whole, float((100 - percent) / 100))[1]
