"""The token stream → overlapping windows, in which each token is scored once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from yuwen.evaluation.tokens import Tokens


@dataclass(frozen=True)
class Window:
    """Tokens `ids` [n] as the model reads them, of which those from `first` on are scored; they stand for `bytes`."""

    ids: np.ndarray
    first: int
    bytes: int


def windows(tokens: Iterable[Tokens], window: int, stride: int) -> Iterator[Window]:
    """Windows of `window` tokens that begin every `stride`, up to the one that reaches the end of the stream.

        stride 2    a b c d                  scored: b c d        (a: nothing comes before it)
        window 4        c d e f                          e f
                            e f g                            g

    A window scores what no earlier one has, each token from all that the window holds before it, so with at least
    window - stride tokens of context (except at the very start). A window's own first token is never scored by it:
    with stride < window the one before has done that; with stride = window nobody does.
    """
    ids, sizes = np.empty(0, np.int32), np.empty(0, np.int32)
    scored = 1  # index, within what is held, of the first token not yet scored
    for part in tokens:
        ids, sizes = np.concatenate((ids, part.ids)), np.concatenate((sizes, part.sizes))
        begin = 0
        while len(ids) - begin > window:
            end = begin + window
            yield Window(ids[begin:end], scored, int(sizes[begin + scored : end].sum()))
            begin += stride
            scored = max(1, end - begin)
        ids, sizes = ids[begin:], sizes[begin:]
    if scored < len(ids):
        yield Window(ids, scored, int(sizes[scored:].sum()))
