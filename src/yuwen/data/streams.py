"""Shards → rows that read on: for models that carry a state from one window to the next."""

from __future__ import annotations

import numpy as np

from yuwen.data.shards import Shards
from yuwen.data.windows import Sample, mix
from yuwen.errors import UserError


class Streams:
    """`rows` readers of one text, each a window further at every step (Mikolov et al. 2010; Merity et al. 2018).

        row 0   |a b c d|e f g h|...        step 0, step 1, ...      position p: row p % rows of step p // rows
        row 1   |k l m n|o p q r|...

    The token stream is a ring, from a phase that the seed gives; row r starts r/rows of the way round, and reads on for
    ever: where its neighbour began, after one epoch, it goes on with what the neighbour has read. So nothing is
    skipped, no row ever jumps, every token is an input once an epoch, and windows are cut elsewhere in each epoch
    wherever `length` does not divide a row's share. A sample is a pure function of (seed, position).
    Raises UserError if the corpus gives a row less than one window.
    """

    def __init__(self, shards: Shards, length: int, rows: int, seed: int = 0) -> None:
        if length < 1 or rows < 1:
            raise UserError(f"data.length={length}, {rows} streams: both must be at least 1")
        total = len(shards.tokens)
        if total < rows * length + 1:
            raise UserError(
                f"the text's {total} tokens are fewer than a step's {rows} streams of data.length={length}; "
                "use a smaller train.batch_tokens or data.length, or more text"
            )
        self.shards, self.length, self.rows = shards, length, rows
        self.per_epoch = -(-total // length)
        self._phase = int(mix(np.full(1, seed % 2**64, np.uint64))[0] % np.uint64(total))

    def samples(self, positions: np.ndarray) -> Sample:
        """The windows at some global positions [B]: ids [B, T+1], and which streams they continue."""
        positions = np.asarray(positions, np.int64)
        at = (self.starts(positions)[:, None] + np.arange(self.length + 1)) % len(self.shards.tokens)
        ids, flags = self.shards.tokens[at].astype(np.int64), self.shards.flags[at]
        return Sample(ids, flags, positions, positions % self.rows, self.rows, positions < self.rows)

    def starts(self, positions: np.ndarray) -> np.ndarray:
        """Index of the first token of each window [B]."""
        step, row = np.divmod(np.asarray(positions, np.int64), self.rows)
        total = len(self.shards.tokens)
        return (self._phase + row * total // self.rows + step * self.length) % total
