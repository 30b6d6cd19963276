"""What a model keeps of the segments before this one, so that a text may be longer than a batch (Dai et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class SegmentMemory:
    """The input of every layer at earlier positions, [B, M, D] each (section 3.2): read, never learnt through.

    At most `width` positions are kept (0: all). `visible_BM` is False where another text stands: rows that were
    forgotten; None while there are none.
    """

    def __init__(self, layers: int, width: int = 0) -> None:
        self.width = width
        self.states: list[Tensor | None] = [None] * layers
        self.visible_BM: Tensor | None = None

    @property
    def length(self) -> int:
        """Positions held."""
        return 0 if self.states[0] is None else self.states[0].shape[1]

    def append(self, states_BTD: Sequence[Tensor]) -> None:
        """Adds the inputs of every layer at the newest positions, and lets the oldest go."""
        B, T, _ = states_BTD[0].shape
        if self.visible_BM is not None:
            self.visible_BM = self._last(torch.cat((self.visible_BM, self.visible_BM.new_ones(B, T)), dim=1))
        for n, (old, new) in enumerate(zip(self.states, states_BTD, strict=True)):
            self.states[n] = self._last(new.detach() if old is None else torch.cat((old, new.detach()), dim=1))

    def forget(self, rows_B: Tensor) -> None:
        """Rows (True) whose text begins anew see nothing of what is held."""
        if self.length and bool(rows_B.any()):
            visible = self.visible_BM
            if visible is None:
                visible = torch.ones(len(rows_B), self.length, dtype=torch.bool, device=rows_B.device)
            self.visible_BM = visible & ~rows_B[:, None]

    def tensors(self) -> dict[str, Tensor]:
        """All that is held, by name, each [B, …], for a checkpoint; nothing at the start.

        Where there is a `width` they have that length, filled in front with what is not visible: one shape at any time.
        """
        first = self.states[0]
        if first is None:
            return {}
        visible = first.new_ones(first.shape[:2], dtype=torch.bool) if self.visible_BM is None else self.visible_BM
        front = max(0, self.width - self.length)
        held = {f"layer.{n}": state for n, state in enumerate(self.states) if state is not None}
        padded = {name: F.pad(state, (0, 0, front, 0)) for name, state in held.items()}
        return {**padded, "visible": F.pad(visible, (front, 0))}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""
        visible_BM = tensors.get("visible")
        self.states = [tensors.get(f"layer.{n}") for n in range(len(self.states))]
        self.visible_BM = None if visible_BM is None or bool(visible_BM.all()) else visible_BM

    def _last(self, held: Tensor) -> Tensor:
        return held[:, -self.width :] if self.width else held
