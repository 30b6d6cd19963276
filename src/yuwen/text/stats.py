"""What a corpus is made of: how much, how long, in which scripts, how much of it twice."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from yuwen.text.sources import read
from yuwen.text.tally import Tally

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_CODES = 0x110000
_BATCH = 1 << 20
_EXACT = 128  # lengths up to this have a bin each, longer ones share bins 1 % wide
_WIDTH = math.log(1.01)


@dataclass
class Stats:
    """Figures of a corpus. Shares are of characters, but `duplicates`, which is of documents."""

    source: str
    documents: int
    characters: int
    bytes: int  # as UTF-8
    duplicates: float
    length_mean: float  # characters in a document
    length_quantiles: dict[str, int]  # percent → characters, true within 1 %; 0 and 100 are exact
    scripts: dict[str, float]  # Han, Latin, …, digits, punctuation, symbols, space; the largest first
    common: dict[str, float]  # the commonest visible characters and their shares

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def stats(source: str, *, field: str | None = None, encoding: str | None = None, common: int = 20) -> Stats:
    """Counts a DATA in one pass and bounded memory. Raises UserError as `read` does."""
    tally, lengths, codes = Tally(), Lengths(), Codes()
    for document in read(source, field=field, encoding=encoding):
        codes.add(document.text)
        if (length := tally.add(document)) is not None:
            lengths.add(length)
    tally.finish()
    counts = codes.finish()
    scripts: Counter[str] = Counter()
    for character, count in counts.items():
        scripts[script(character)] += count
    total = max(tally.characters, 1)
    visible = Counter({character: count for character, count in counts.items() if not character.isspace()})
    return Stats(
        source,
        tally.documents,
        tally.characters,
        tally.bytes,
        tally.duplicates / max(tally.documents, 1),
        tally.characters / max(tally.documents, 1),
        {str(percent): lengths.quantile(percent / 100) for percent in QUANTILES},
        {name: count / total for name, count in scripts.most_common()},
        {character: count / total for character, count in visible.most_common(common)},
    )


def script(character: str) -> str:
    """The script of a letter (Han, Latin, Hiragana, Cyrillic, …), or digits, punctuation, symbols, space, control."""
    category = unicodedata.category(character)
    if category[0] in "LM":
        if character in "〇々〆":
            return "Han"
        word = unicodedata.name(character, "OTHER").split()[0]
        if word == "FULLWIDTH":
            return "Latin"
        return "Han" if word == "CJK" else word.capitalize()
    if character.isspace():
        return "space"
    if character == "〇":
        return "Han"
    return {"N": "digits", "P": "punctuation", "S": "symbols", "Z": "space", "C": "control"}[category[0]]


class Lengths:
    """A histogram of lengths, in which a quantile is found within 1 %."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self._least, self._most = -1, 0

    def add(self, length: int) -> None:
        self._least = length if self._least < 0 else min(self._least, length)
        self._most = max(self._most, length)
        self._bins[length if length <= _EXACT else _EXACT + math.ceil(math.log(length / _EXACT) / _WIDTH)] += 1

    def quantile(self, share: float) -> int:
        """The least length that `share` of the documents do not exceed."""
        if not self._bins or share <= 0:
            return max(self._least, 0)
        passed, wanted = 0, share * self._bins.total()
        for place in sorted(self._bins):
            passed += self._bins[place]
            if passed >= wanted:
                edge = place if place <= _EXACT else round(_EXACT * math.exp((place - _EXACT) * _WIDTH))
                return min(edge, self._most)
        return self._most


class Codes:
    """How often each character occurs, counted in large batches."""

    def __init__(self) -> None:
        self._counts = np.zeros(_CODES, np.int64)
        self._texts: list[str] = []
        self._size = 0

    def add(self, text: str) -> None:
        self._texts.append(text)
        self._size += len(text)
        if self._size >= _BATCH:
            self._flush()

    def finish(self) -> dict[str, int]:
        self._flush()
        return {chr(code): int(self._counts[code]) for code in np.flatnonzero(self._counts)}

    def _flush(self) -> None:
        codes = np.frombuffer("".join(self._texts).encode("utf-32-le"), np.uint32)
        counts = np.bincount(codes)
        self._counts[: len(counts)] += counts
        self._texts.clear()
        self._size = 0
