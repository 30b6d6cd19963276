"""Is this a text worth learning from? Shares that tell junk, after the rules of Gopher (Rae et al. 2021, §A1.1).

Gopher counts words, which Chinese does not mark; here all is counted in characters.
"""

from __future__ import annotations

import re
import unicodedata

_ORDINARY = re.compile(r"[\w\s.,:;!?'\"()\[\]/%&-]|[，。、：；！？“”‘’（）《》〈〉「」『』【】…—·～￥]")
_RUN = re.compile(r"(\S)\1{4,}")


def symbols(text: str) -> float:
    """Share of characters that are neither letters and their marks, digits, space nor ordinary punctuation."""
    others = _ORDINARY.sub("", text)  # \w knows no marks, which are the vowels of Hindi and the tones of Thai
    return sum(not unicodedata.category(character).startswith("M") for character in others) / max(len(text), 1)


def repeated_lines(text: str) -> float:
    """Share of non-empty lines that came before in the text. Gopher drops a document above 0.3."""
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def repeated_characters(text: str) -> float:
    """Share of the text in runs of five or more times the same character."""
    return sum(match.end() - match.start() for match in _RUN.finditer(text)) / max(len(text), 1)
