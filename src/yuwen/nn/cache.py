"""What a decoder remembers between calls, so that each new token costs one position."""

from __future__ import annotations

import torch
from torch import Tensor

_BUCKET = 256  # slots a buffer grows by at least: appending then copies rarely


class KeyValueCache:
    """Keys and values of one attention layer, [B, G, S, K], in buffers that double as they fill."""

    def __init__(self) -> None:
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Adds T positions; returns all keys and values so far (views, valid until the next append)."""
        end = self.length + k_BGTK.shape[2]
        self._keys = _grown(self._keys, k_BGTK, self.length, end)
        self._values = _grown(self._values, v_BGTK, self.length, end)
        self._keys[:, :, self.length : end] = k_BGTK
        self._values[:, :, self.length : end] = v_BGTK
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def select(self, rows_B: Tensor) -> None:
        """Keeps the given batch rows, in that order: for beams, and for sequences that have ended."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys[rows_B], self._values[rows_B]


class DecoderCache:
    """A key-value cache for every layer of a decoder."""

    def __init__(self, layers: int) -> None:
        self.layers = [KeyValueCache() for _ in range(layers)]

    @property
    def length(self) -> int:
        """Positions held."""
        return self.layers[0].length if self.layers else 0

    def select(self, rows_B: Tensor) -> None:
        """Keeps the given batch rows in every layer."""
        for layer in self.layers:
            layer.select(rows_B)


def _grown(buffer: Tensor | None, like_BGTK: Tensor, used: int, needed: int) -> Tensor:
    if buffer is not None and needed <= buffer.shape[2]:
        return buffer
    batch, heads, _, width = like_BGTK.shape
    capacity = -(-max(needed, 2 * used) // _BUCKET) * _BUCKET
    larger = torch.empty(batch, heads, capacity, width, dtype=like_BGTK.dtype, device=like_BGTK.device)
    if buffer is not None:
        larger[:, :, :used] = buffer[:, :, :used]
    return larger
