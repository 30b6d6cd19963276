"""Documents → the token stream that is scored, piece by piece, in memory that does not grow with the data."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from yuwen.errors import UserError
from yuwen.text import Document
from yuwen.tokens import Tokenizer

_PIECE = 1 << 16  # characters that are encoded at once
_LONGEST = 1 << 22  # where the tokenizer would see a cut: then there is one token in millions that it cuts otherwise
_WITHOUT = 1 << 24  # characters without a place to cut, after which a piece ends where a part of the text does


@dataclass(frozen=True)
class Tokens:
    """A part of the stream: ids int32 [n], and the UTF-8 bytes of the original text that each stands for, int32 [n]."""

    ids: np.ndarray
    sizes: np.ndarray
    unknown: str | None = None  # what the tokenizer could not write, and where: the first such place


@dataclass(frozen=True)
class _Piece:
    """Some joined text. `marks` say which source and line begins at which character."""

    text: str
    marks: list[tuple[int, str, int]]
    ends: bool = False  # an end token follows

    def place(self, at: int) -> str:
        """Where the user finds a character."""
        begin, source, line = self.marks[bisect_right(self.marks, at, key=lambda mark: mark[0]) - 1]
        return f"{source}:{line + self.text.count(chr(10), begin, at)}"


def token_stream(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[Tokens]:
    """Encodes documents as training joins them: nothing normalised, no start token.

    The end token follows files and records. Lines are joined by a line break, none after the very last.
    The `sizes` add up to the UTF-8 bytes of that text; end tokens stand for none.
    """
    homeless = 0  # bytes of white space that a tokenizer made no token of: they count for the next one
    for piece in _pieces(documents, _PIECE if tokenizer.cuts_at_lines else _LONGEST):
        ids, sizes = tokenizer.encode_bytes(piece.text)
        unknown = _first_unknown(piece, ids, sizes, tokenizer)
        if not len(ids):
            homeless += len(piece.text.encode())
        if piece.ends:
            if tokenizer.end_id is None:
                raise UserError("the tokenizer has no end token, which must close every file and record of the data")
            ids, sizes = np.append(ids, np.int32(tokenizer.end_id)), np.append(sizes, np.int32(0))
        if len(ids):
            if homeless:
                sizes = sizes.copy()
                sizes[0] += homeless
                homeless = 0
            yield Tokens(ids, sizes, unknown)


def _pieces(documents: Iterable[Document], most: int) -> Iterator[_Piece]:
    """The joined text, cut after `most` characters before a line's first character, if it is no space.

    Each part is searched once, however far such places lie apart.
    """
    parts: list[str] = []
    marks: list[tuple[int, str, int]] = []
    length, line_open = 0, False
    searched = 0  # of the parts: in these there is no place to cut
    for document in documents:
        if line_open:
            parts.append("\n")
            length += 1
        line_open = document.closing == "line"
        marks.append((length, document.source, document.line))
        parts.append(document.text)
        length += len(document.text)
        if document.closing == "end":
            yield _Piece("".join(parts), marks, ends=True)
            parts, marks, length, searched = [], [], 0, 0
        elif length >= most:
            rest = "".join([*(part[-1:] for part in parts[searched - 1 : searched]), *parts[searched:]])
            cut = _last_cut(rest)
            cut = length - len(rest) + cut if cut else length if length >= _WITHOUT else 0
            if cut:
                text = "".join(parts)
                piece = _Piece(text, marks)
                source, _, line = piece.place(cut).rpartition(":")
                marks = [(0, source, int(line)), *((at - cut, name, first) for at, name, first in marks if at > cut)]
                yield _Piece(text[:cut], piece.marks)
                parts, length = [text[cut:]], len(text) - cut
            searched = len(parts)
    if length:
        yield _Piece("".join(parts), marks)


def _last_cut(text: str) -> int:
    """Where the last line begins that begins with no space; 0 if there is none."""
    at = len(text)
    while (at := text.rfind("\n", 0, at)) >= 0:
        if at + 1 < len(text) and not text[at + 1].isspace():
            return at + 1
    return 0


def _first_unknown(piece: _Piece, ids: np.ndarray, sizes: np.ndarray, tokenizer: Tokenizer) -> str | None:
    if tokenizer.unknown_id is None:
        return None
    raw, own = piece.text.encode(), tokenizer.token_bytes(tokenizer.unknown_id)
    ends = np.cumsum(sizes, dtype=np.int64)
    for at in np.flatnonzero(ids == tokenizer.unknown_id):
        begin, end = int(ends[at] - sizes[at]), int(ends[at])
        if raw[begin:end].strip() != own:  # a text may write the unknown word itself, as WikiText does
            before = len(raw[:begin].decode(errors="ignore"))
            return f"{piece.place(before)}: {raw[begin:end].decode(errors='ignore').strip()[:20]!r}"
    return None
