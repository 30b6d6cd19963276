"""Windows → the batches of one process, resumable from one number."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from yuwen.errors import UserError


class Source(Protocol):
    """Samples as a pure function of their global positions [B]."""

    def samples(self, positions: np.ndarray) -> Any: ...


def share_of(samples: int, world: int) -> int:
    """How many of a batch's samples each process reads. UserError if the batch cannot be shared equally."""
    if samples < 1 or samples % world:
        raise UserError(
            f"a batch of {samples} windows cannot be shared by {world} processes"
            f"; choose train.batch_tokens as a multiple of {world} × data.length"
        )
    return samples // world


class Loader:
    """Batches for rank `rank` of `world`: together the ranks read exactly what one process would, in its order.

    A step's global batch is the `samples` windows from `position` on; rank r takes its r-th equal share. The state is
    the global position alone, so a run may resume with another number of processes or another batch.
    No thread reads ahead: gathering 16 windows of 256 tokens from the memory map takes about 1 ms.
    Raises UserError if the batch cannot be shared equally.
    """

    def __init__(self, windows: Source, samples: int, rank: int = 0, world: int = 1, position: int = 0) -> None:
        share = share_of(samples, world)
        self.windows, self.samples, self.position = windows, samples, position
        self._offsets = np.arange(rank * share, (rank + 1) * share)

    def next_batch(self) -> Any:
        """This rank's share of the next global batch, ids [samples / world, T+1]; moves on by one step."""
        batch = self.windows.samples(self.position + self._offsets)
        self.position += self.samples
        return batch

    def own(self, streams: int) -> np.ndarray:
        """Which of so many streams this rank reads, bool: those of a step, in the order of their positions."""
        return np.isin(np.arange(streams) % self.samples, self._offsets)

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]
