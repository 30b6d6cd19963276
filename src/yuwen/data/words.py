"""Where words begin, told by a segmenter instead of by the tokenizer's pieces.

Chinese is written without spaces, so what is a word must be looked up or guessed: jieba's dictionary with a hidden
Markov model for what it lacks. Whole-word masking reads these marks (Cui et al. 2019, section 3.1).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal, cast, get_args

import numpy as np

from yuwen.errors import UserError

Words = Literal["pieces", "jieba"]


def known(name: str) -> Words:
    """The name, if it is one of those. UserError for any other."""
    if name not in get_args(Words):
        raise UserError(f"words={name}: one of {', '.join(get_args(Words))}")
    return cast(Words, name)


class Segmenter:
    """jieba, in Rust (the package rjieba). UserError if it is not installed."""

    def __init__(self) -> None:
        try:
            import rjieba
        except ImportError:
            raise UserError("data.words=jieba needs the package rjieba: pip install 'yuwen[words]'") from None
        self._cut = rjieba.cut
        self.identity = f"rjieba {version('rjieba')}"  # another version may cut otherwise

    def starts(self, text: str, counts: np.ndarray) -> np.ndarray:
        """Bool for each token, of so many UTF-8 bytes of the text: no word reaches across its beginning."""
        ends = np.cumsum([len(word.encode()) for word in self._cut(text)], dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        begins = np.zeros(total + 1, bool)
        begins[0] = True
        begins[ends] = True
        return begins[np.cumsum(counts, dtype=np.int64) - counts]
