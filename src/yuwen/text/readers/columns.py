"""CoNLL columns: a token and its tags a line, a blank line after each sentence; recognised by what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from yuwen.text.document import Document
from yuwen.text.file import File

_TAG = re.compile(r"O|[BIESMLU][-_]\S+")
_PLACED = re.compile(r".+\d", re.DOTALL)
# Scripts that put no space between words: Han, kana, their punctuation, full-width forms.
_SOLID = re.compile("[\u2e80-\u303f\u3040-\u30ff\u31f0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")


def recognise(file: File) -> bool:
    """Whether the lines of the sample have the same columns, at least two, the last a BIO tag, in blocks.

    One line in ten may be wrong: it is told when it is read, and does not make the rest plain text.
    """
    lines = [line.rstrip("\r") for line in file.sample()]
    full = [line for line in lines if line.strip()]
    if len(full) < 2 or len(full) == len(lines) or not _TAG.fullmatch(full[0].split()[-1]):
        return False
    separator = _separator(full[0])
    width = len(full[0].split(separator))
    rows = [line.split(separator) for line in full]
    fit = sum(len(row) == width and _TAG.fullmatch(row[-1].strip()) is not None for row in rows)
    return width > 1 and fit >= 0.9 * len(rows)


def read(file: File) -> Iterator[Document]:
    """One document a sentence: fields `tokens` and `tags`, and the text that they make."""
    full = [line for line in file.sample() if line.strip()]
    separator = _separator(full[0])
    width = len(full[0].rstrip("\r").split(separator))
    # Weibo NER writes a character's place in its word after it: 科0 技1 全0.
    placed = all(_PLACED.fullmatch(line.split(separator)[0]) for line in full)
    tokens: list[str] = []
    tags: list[str] = []
    start = 1
    for number, line in file.lines():
        if not line.strip():
            yield from _sentence(file, start, tokens, tags)
            tokens, tags = [], []
            continue
        row = line.split(separator)
        if len(row) != width:
            what = f"the row has {len(row)} columns, not {width}"
            file.problem(number, None, "columns", what, "mend the row, or remove it")
            continue
        if row[0] == "-DOCSTART-":
            continue
        if not tokens:
            start = number
        tokens.append(row[0][:-1] if placed else row[0])
        tags.append(row[-1].strip())
    yield from _sentence(file, start, tokens, tags)


def join(tokens: list[str]) -> str:
    """The text that tokens make: a space between two, unless either side's script writes none."""
    text = ""
    for token in tokens:
        if text and token and not _SOLID.match(text[-1]) and not _SOLID.match(token[0]):
            text += " "
        text += token
    return text


def _sentence(file: File, line: int, tokens: list[str], tags: list[str]) -> Iterator[Document]:
    if tokens:
        yield Document(join(tokens), file.name, line, "end", {"tokens": tokens, "tags": tags})


def _separator(line: str) -> str | None:
    return "\t" if "\t" in line else None
