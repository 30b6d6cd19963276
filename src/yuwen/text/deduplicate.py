"""Exact deduplication in bounded memory: 64-bit hashes in sorted runs, the long ones on disk.

A hash of 64 bits errs about n²/2⁶⁵ times among n documents: one document in 10⁹ is lost with probability 0.03.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

_MEMORY = 1 << 22  # hashes: 32 MiB
_MERGE = 1 << 16


def keys(texts: Iterable[str]) -> np.ndarray:
    """The 64-bit blake2b hashes of texts, uint64 [N]."""
    return np.frombuffer(b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts), "<u8")


class Deduplicator:
    """Remembers keys. Runs hold distinct sorted keys and double in length, so there are never more than log₂ n."""

    def __init__(self, memory: int = _MEMORY) -> None:
        """Runs of more than `memory` keys go to a temporary file."""
        self._memory = memory
        self._runs: list[np.ndarray] = []

    def seen(self, keys: np.ndarray | Sequence[int]) -> np.ndarray:
        """Which of these keys came before, in an earlier call or earlier in this one: bool [N]. Remembers all.

        `keys` are uint64 [N]. A call costs a search in each run: give it thousands of keys at a time.
        """
        found, first, back = np.unique(np.asarray(keys, np.uint64), return_index=True, return_inverse=True)
        known = np.zeros(len(found), bool)
        for run in self._runs:
            places = np.searchsorted(run, found)
            inside = places < len(run)
            known[inside] |= run[places[inside]] == found[inside]
        self._add(found[~known])
        repeated = known[back]
        repeated[np.setdiff1d(np.arange(len(back)), first, assume_unique=True)] = True
        return repeated

    def _add(self, run: np.ndarray) -> None:
        """Adds a run, merged with those that are no longer than it."""
        while len(run) and self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = self._merge(self._runs.pop(), run)
        if len(run):
            self._runs.append(run)

    def _merge(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        total = len(one) + len(other)
        if total <= self._memory:
            return np.sort(np.concatenate([one, other]), kind="stable")
        with tempfile.TemporaryFile(prefix="yuwen-keys-") as file:  # the mapping keeps it alive, its name is gone
            file.truncate(total * 8)
            merged = np.memmap(file, np.uint64, "r+", shape=(total,))
        left = right = 0
        while left < len(one) or right < len(other):
            # All keys up to the smaller of two block ends can be merged without looking further.
            blocks = one[left : left + _MERGE], other[right : right + _MERGE]
            limit = min(block[-1] for block in blocks if len(block))
            below = [block[: np.searchsorted(block, limit, "right")] for block in blocks]
            end = left + right + len(below[0]) + len(below[1])
            merged[left + right : end] = np.sort(np.concatenate(below), kind="stable")
            left, right = left + len(below[0]), right + len(below[1])
        return merged
