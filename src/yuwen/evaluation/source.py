"""DATA as `evaluate` takes it: all of it, or the last part that a recipe's `data.valid` held out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from yuwen.errors import UserError
from yuwen.text import Document

_TAIL = re.compile(r"(?P<data>.+)\[(?P<percent>\d+(?:\.\d+)?)%:\]", re.DOTALL)


def documents_of(data: str, *, field: str | None = None, encoding: str | None = None) -> Iterator[Document]:
    """The documents of DATA, or of `DATA[95%:]`: what `data.valid=0.05` holds out of it.

    A share is counted as `yuwen.data.split` counts it: in characters where the documents are text files, else in
    documents, the first int(n · 95 %) left out. UserError for a share that leaves nothing.
    """
    from yuwen.data import corpus, split
    from yuwen.text import read

    tail = _TAIL.fullmatch(data)
    if tail is None:
        return read(data, field=field, encoding=encoding)
    percent = Fraction(tail["percent"])
    if percent >= 100:
        raise UserError(f"{data}: from {tail['percent']} % on nothing is left; begin below 100 %, such as [95%:]")
    whole = corpus(tail["data"], field=field, encoding=encoding)
    if percent == 0:
        return whole.documents()
    _, rest = split(whole, float((100 - percent) / 100))
    return rest.documents()
