"""Plain text: a file is one document, yielded in parts so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

from yuwen.text.document import Document
from yuwen.text.file import File

LONGEST = 1 << 24


def read(file: File) -> Iterator[Document]:
    """The file in parts of at most 1 MiB (one part, if it has less than half of that), which joined are the file.

    A part begins with a non-space character that follows a line break: there most tokenizers cut the whole, too. All
    but the last have closing="none". Where such places are far apart parts are longer; a stretch of LONGEST
    characters without one is cut where it ends.
    """
    rest, line = "", 1
    for block in file.text():
        cut = _last_cut(rest, block) or (len(rest) if len(rest) > LONGEST else 0)
        if cut:
            part, rest = rest[:cut], rest[cut:]
            yield Document(part, file.name, line, "none")
            line += part.count("\n")
        rest += block
    if rest:
        yield Document(rest, file.name, line, "end")


def _last_cut(text: str, after: str) -> int:
    """The last place in `text` after a line break and before a non-space character; 0 if there is none."""
    if text.endswith("\n") and not after[0].isspace():
        return len(text)
    place = text.rfind("\n", 0, len(text) - 1)
    while place >= 0 and text[place + 1].isspace():
        place = text.rfind("\n", 0, place)
    return place + 1
