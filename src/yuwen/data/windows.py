"""Shards → samples of a fixed length, in an order that needs no memory and no history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yuwen.data.shards import DOCUMENT, Shards
from yuwen.errors import UserError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 4


@dataclass(frozen=True)
class Sample:
    """Windows [B, T+1]: inputs are all ids but the last, targets all but the first.

    Windows that read on (`Streams`) also say which of so many streams each goes on with, and whether it starts there.
    """

    ids: np.ndarray  # int64
    flags: np.ndarray  # uint8, the bits of `yuwen.data.shards`
    positions: np.ndarray  # int64 [B]: the global positions
    stream: np.ndarray | None = None  # int64 [B]
    streams: int = 0
    fresh: np.ndarray | None = None  # bool [B]

    @property
    def document_starts(self) -> np.ndarray:
        """Bool, shaped as ids: true where a document begins (a window's first token need not begin one)."""
        return (self.flags & DOCUMENT) != 0

    @property
    def documents(self) -> np.ndarray:
        """int64, shaped as ids: number of the document within the window, for the packed-documents mask."""
        return np.cumsum(self.document_starts, axis=-1, dtype=np.int64)


class Windows:
    """Windows of `length` + 1 tokens, packed without padding, shuffled anew in every epoch.

    The token stream is a ring that an epoch cuts, from a phase of its own, into `per_epoch` = ⌈T / length⌉ windows:
    every token is an input once an epoch (the last window overlaps the first where `length` does not divide T), and the
    cuts fall elsewhere in every epoch. Window number `position % per_epoch` of epoch `position // per_epoch` is found
    by a Feistel permutation (Luby & Rackoff 1988), so a sample is a pure function of (seed, position).
    Raises UserError if the corpus is shorter than one window.
    """

    def __init__(self, shards: Shards, length: int, seed: int = 0) -> None:
        if length < 1:
            raise UserError(f"data.length={length}: a window needs at least 1 token")
        if len(shards.tokens) < length + 1:
            raise UserError(
                f"the text's {len(shards.tokens)} tokens are fewer than one window of data.length + 1 = {length + 1};"
                " use a smaller data.length or more text"
            )
        self.shards, self.length = shards, length
        self.per_epoch = -(-len(shards.tokens) // length)
        self._seed = np.uint64(seed % 2**64)

    def samples(self, positions: np.ndarray) -> Sample:
        """The windows at some global positions [B]: ids [B, T+1]."""
        at = self._at(positions)
        return Sample(self.shards.tokens[at].astype(np.int64), self.shards.flags[at], np.asarray(positions, np.int64))

    def starts(self, positions: np.ndarray) -> np.ndarray:
        """Index of the first token of each window [B]."""
        epoch, index = np.divmod(np.asarray(positions, np.int64), self.per_epoch)
        key = mix(epoch.astype(np.uint64) ^ mix(np.full(1, self._seed)))
        total = np.uint64(len(self.shards.tokens))
        phase = mix(~key) % total
        return ((permute(index, self.per_epoch, key) * np.uint64(self.length) + phase) % total).astype(np.int64)

    def _at(self, positions: np.ndarray) -> np.ndarray:
        return (self.starts(positions)[:, None] + np.arange(self.length + 1)) % len(self.shards.tokens)


def permute(index: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """Where each index [N] in [0, size) goes under the permutation that its key [N] (uint64) names: uint64 [N].

    A balanced Feistel network permutes the next power of four; what lands outside is sent on until it lands inside
    ("cycle walking", Black & Rogaway 2002, §3), on average fewer than four times.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    key = np.broadcast_to(key, index.shape)
    out = _feistel(index.astype(np.uint64), key, half)
    while (outside := out >= size).any():
        out[outside] = _feistel(out[outside], key[outside], half)
    return out


def mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014): uint64 [N] → well mixed uint64 [N]."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _feistel(x: np.ndarray, key: np.ndarray, half: np.uint64) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    for turn in range(_ROUNDS):
        left, right = right, left ^ (mix(right ^ mix(key + np.uint64(turn))) & mask)
    return (left << half) | right
