"""Arrays longer than memory: they grow at the end, are read in parts, and lie in a file or, when short, in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class Column:
    """A one-dimensional array of `dtype`. Without a `path` it is held in memory.

    `read` gives a part, not to be written to; of a file only that part is then in memory. `array` is the whole, for
    access anywhere; it is mapped from the file, and stays valid when the file's name is removed.
    """

    def __init__(self, dtype: np.dtype | type, path: Path | None = None) -> None:
        self.dtype, self.path = np.dtype(dtype), path
        self._length = 0
        self._blocks: list[np.ndarray] = []
        self._file = None if path is None else path.open("wb", buffering=0)

    @classmethod
    def of(cls, array: np.ndarray) -> Column:
        """A column that is an array in memory."""
        column = cls(array.dtype)
        column.append(array)
        return column

    @classmethod
    def stored(cls, path: Path, dtype: np.dtype) -> Column:
        """A file's whole content, to be read."""
        column = cls(dtype)
        column.path, column._length = path, path.stat().st_size // dtype.itemsize
        return column

    def __len__(self) -> int:
        return self._length

    def append(self, block: np.ndarray) -> None:
        """Adds elements at the end. OSError when the disk refuses."""
        block = np.ascontiguousarray(block, self.dtype)
        self._length += len(block)
        if self._file is None:
            self._blocks.append(block)
        elif len(block):
            view = block.data.cast("B")
            while len(view):  # one write may take less than it is given: 2 GiB at most on Linux
                view = view[self._file.write(view) :]

    def read(self, start: int, stop: int) -> np.ndarray:
        """The elements from `start` up to `stop`, or to the end if that comes first."""
        stop = min(stop, self._length)
        if self.path is None:
            return self.array()[start:stop]
        return np.fromfile(self.path, self.dtype, max(0, stop - start), offset=start * self.dtype.itemsize)

    def parts(self, size: int) -> Iterator[np.ndarray]:
        """All elements in parts of `size`, the last one shorter."""
        edges = [*range(0, self._length, size), self._length]
        return (self.read(start, stop) for start, stop in itertools.pairwise(edges))

    def array(self) -> np.ndarray:
        """The whole; writing to it never reaches a file."""
        if self.path is not None and self._length:
            return np.memmap(self.path, self.dtype, mode="c", shape=(self._length,))
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.empty(0, self.dtype), *self._blocks])]
        return self._blocks[0]

    def close(self, *, remove: bool = False) -> None:
        """No more is appended; `remove` also gives the room back (what `array` gave stays valid)."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if remove:
            self._blocks, self._length = [], 0
            if self.path is not None:
                self.path.unlink(missing_ok=True)


class Workspace:
    """Where columns are made: in a folder, or in memory (None). So many n-grams are counted at a time: `block`.

    Tables are made in smaller parts, for several arrays of a part's length stand beside each other.
    """

    def __init__(self, folder: Path | None = None, block: int = 1 << 24) -> None:
        if block < 1:
            raise ValueError(f"block={block}: at least 1")
        self.folder, self.block, self.part = folder, block, max(1, block // 4)
        self._number = itertools.count()

    def column(self, dtype: np.dtype | type) -> Column:
        """A new, empty column."""
        return Column(dtype, None if self.folder is None else self.folder / f"{next(self._number)}.bin")
