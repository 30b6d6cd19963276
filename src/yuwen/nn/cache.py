"""What a decoder remembers between calls, so that each new token costs one position."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

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

    def truncate(self, length: int) -> bool:
        """Forgets all but the first `length` positions; False, and nothing done, if what they need is not held."""
        if length > self.length:
            return False
        self.length = length
        return True

    def select(self, rows_B: Tensor) -> None:
        """Keeps the given batch rows, in that order: for beams, and for sequences that have ended."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys[rows_B], self._values[rows_B]


class WindowCache(KeyValueCache):
    """Keys and values of a layer that looks back `width` positions at most: it keeps only what can be seen again.

    `append` returns the last `T + width - 1` positions of those seen so far, fewer at the start. `length` counts all
    that were appended.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self._first = 0  # the slot of the buffers that holds the oldest position still visible
        self._end = 0

    def append(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        T = k_BGTK.shape[2]
        first = max(self._first, self._end - self.width + 1)
        if self._keys is None or self._values is None or self._end + T > self._keys.shape[2]:
            # what is held moves to the front of buffers that have room for another window before they move again
            self._keys, self._values = self._moved(self._keys, k_BGTK, first), self._moved(self._values, v_BGTK, first)
            first, self._end = 0, self._end - first
        end = self._end + T
        self._keys[:, :, self._end : end] = k_BGTK
        self._values[:, :, self._end : end] = v_BGTK
        self._first, self._end = first, end
        self.length += T  # last, so that an interrupt before it leaves what `truncate` understands
        return self._keys[:, :, first:end], self._values[:, :, first:end]

    def truncate(self, length: int) -> bool:
        moved_out = self.length - self._end  # positions that have no slot any more
        if length > self.length or max(0, length - self.width + 1) < moved_out:
            return False
        self._first, self._end = 0, length - moved_out
        self.length = length
        return True

    def _moved(self, buffer: Tensor | None, new_BGTK: Tensor, first: int) -> Tensor:
        batch, heads, T, width = new_BGTK.shape
        held = self._end - first
        capacity = -(-(held + T + min(self.width, max(held + T, _BUCKET))) // _BUCKET) * _BUCKET
        larger = torch.empty(batch, heads, capacity, width, dtype=new_BGTK.dtype, device=new_BGTK.device)
        if buffer is not None:
            larger[:, :, :held] = buffer[:, :, first : self._end]
        return larger


class MemoryCache(KeyValueCache):
    """A layer's own keys and values, and those of the memory it reads: made for the first token, kept for all others.

    `truncate` and `length` are of its own positions; rows are chosen among both.
    """

    def __init__(self) -> None:
        super().__init__()
        self._memory: tuple[Tensor, Tensor] | None = None

    def once(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory, [B, G, S, K] each: what `make` gives the first time."""
        if self._memory is None:
            self._memory = make()
        return self._memory

    def select(self, rows_B: Tensor) -> None:
        super().select(rows_B)
        if self._memory is not None:
            keys, values = self._memory
            self._memory = keys[rows_B], values[rows_B]


class DecoderCache:
    """A key-value cache for every layer of a decoder; `windows` gives the width of those that look back less far."""

    layers: Sequence[KeyValueCache]

    def __init__(self, layers: int, windows: Mapping[int, int] | None = None) -> None:
        windows = windows or {}
        self.layers = [WindowCache(windows[n]) if n in windows else KeyValueCache() for n in range(layers)]

    @property
    def length(self) -> int:
        """Positions read."""
        return self.layers[0].length if self.layers else 0

    def truncate(self, length: int) -> bool:
        """Forgets all but the first `length` positions in every layer; False: the cache is of no more use."""
        return all([layer.truncate(length) for layer in self.layers])

    def select(self, rows_B: Tensor) -> None:
        """Keeps the given batch rows in every layer."""
        for layer in self.layers:
            layer.select(rows_B)

    def branch(self, rows_B: Tensor) -> DecoderCache:
        """Another cache, of the given batch rows: several ways to go on from one beginning. This one stays as it is."""
        twin = copy.copy(self)
        twin.layers = [copy.copy(layer) for layer in self.layers]
        twin.select(rows_B)  # replaces the twin's buffers, and writes into none
        return twin


class EncoderDecoderCache(DecoderCache):
    """The same for decoder layers that also read a memory."""

    layers: Sequence[MemoryCache]

    def __init__(self, layers: int) -> None:
        self.layers = [MemoryCache() for _ in range(layers)]


def _grown(buffer: Tensor | None, like_BGTK: Tensor, used: int, needed: int) -> Tensor:
    if buffer is not None and needed <= buffer.shape[2]:
        return buffer
    batch, heads, _, width = like_BGTK.shape
    capacity = -(-max(needed, 2 * used) // _BUCKET) * _BUCKET
    larger = torch.empty(batch, heads, capacity, width, dtype=like_BGTK.dtype, device=like_BGTK.device)
    if buffer is not None:
        larger[:, :, :used] = buffer[:, :, :used]
    return larger
