"""What a GGUF file says it holds, read without believing any of it.

    "GGUF"  version  number of tensors  number of settings
    settings:  name, type, value                        (a value may be an array: element type, length, elements)
    tensors:   name, number of dimensions, dimensions (fastest first), type, offset
    padding to the alignment;  the tensors' bytes, each at its offset from here

(ggml/docs/gguf.md in ggml-org/ggml, versions 2 and 3.) A length is checked against what is left of the file before
anything of that length is made, every count has a limit that no published model comes near, and arrays of numbers
stay views of the mapped file. So a hostile header costs at most some hundred megabytes and a few seconds.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yuwen.errors import UserError
from yuwen.interop.gguf.types import Type, type_of

Value = Any  # bool | int | float | str | list[str] | np.ndarray

_SCALARS: dict[int, np.dtype[Any]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("bool"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
_BOOL, _STRING, _ARRAY = 7, 8, 9

# A vocabulary of 262,144 pieces has 514,906 merges; the largest models have some thousand tensors.
_MOST_SETTINGS, _MOST_TENSORS, _MOST_STRINGS, _LONGEST_NAME, _LONGEST_STRING = 65_536, 65_536, 2_000_000, 1024, 1 << 24


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `shape` as PyTorch writes it (slowest first), `start` from the beginning of the file."""

    name: str
    shape: tuple[int, ...]
    type: Type
    start: int
    size: int


class GGUFFile:
    """The settings and tensors of a file, which stays mapped while this object or a tensor of it lives.

    UserError, one line, for anything malformed: nothing of the tensors is read, only whether they can be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                # private: whoever trains a loaded model writes to memory, never to the file
                self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except ValueError:
            raise UserError(f"{path}: an empty file, not GGUF: download it again") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        try:
            self.settings, self.tensors = _Reader(self.bytes).read()
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor. UserError if the file lacks it."""
        if name not in self.tensors:
            raise UserError(f"{self.path}: no tensor {name}: not the complete file of a model")
        return self.tensors[name].shape

    def release(self, name: str) -> None:
        """Gives back the memory of a tensor that has been read to the end; it would be read from the file again."""
        info = self.tensors[name]
        first = -(-info.start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (info.start + info.size) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self.bytes.madvise(mmap.MADV_DONTNEED, first, length)

    def same_bytes(self, one: str, other: str) -> bool:
        """Whether two tensors are stored alike, to the byte."""
        a, b = self.tensors[one], self.tensors[other]
        if (a.shape, a.type) != (b.shape, b.type):
            return False
        view = np.frombuffer(self.bytes, np.uint8)
        return bool(np.array_equal(view[a.start : a.start + a.size], view[b.start : b.start + b.size]))


class _Reader:
    def __init__(self, file: mmap.mmap) -> None:
        self.file = file
        self.end = len(file)
        self.at = 0
        self.strings = 0

    def read(self) -> tuple[dict[str, Value], dict[str, TensorInfo]]:
        if self.file[:4] != b"GGUF":
            raise UserError("not a GGUF file (it does not begin with GGUF)")
        self.at = 4
        version = self.integer("<I")
        if version in (0x02000000, 0x03000000):
            raise UserError("a big-endian GGUF file: convert it with gguf-convert-endian")
        if version not in (2, 3):
            raise UserError(f"GGUF version {version}: only 2 and 3 can be read; convert the model again")
        tensors, settings = self.integer("<Q"), self.integer("<Q")
        if settings > _MOST_SETTINGS or tensors > _MOST_TENSORS:
            raise UserError(f"{settings:,} settings and {tensors:,} tensors: a damaged header; download it again")
        values = self._settings(settings)
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= 65_536 or alignment & (alignment - 1):
            raise UserError(f"general.alignment is {_shown(alignment)}, not a power of two from 8 to 65536")
        return values, self._tensors(tensors, alignment)

    def _settings(self, count: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for _ in range(count):
            name = self.string(_LONGEST_NAME, "the name of a setting")
            if name in values:
                raise UserError(f"setting {_shown(name)} is there twice: a damaged header; download it again")
            values[name] = self._value(self.integer("<I"), name)
        return values

    def _value(self, kind: int, name: str) -> Value:
        if kind in _SCALARS:
            return self._numbers(kind, 1, name)[0].item()
        if kind == _STRING:
            return self.string(_LONGEST_STRING, f"setting {_shown(name)}")
        if kind != _ARRAY:
            raise UserError(f"setting {_shown(name)} is of unknown type {kind}: a damaged header; download it again")
        of, length = self.integer("<I"), self.integer("<Q")
        if of in _SCALARS:
            return self._numbers(of, length, name)
        if of == _STRING:
            self.strings += length
            if length > self.left // 8 or self.strings > _MOST_STRINGS:
                raise UserError(f"setting {_shown(name)} holds {length:,} texts: a damaged header; download it again")
            return self._texts(length, name)
        kinds = "arrays" if of == _ARRAY else f"unknown type {of}"
        raise UserError(f"setting {_shown(name)} is an array of {kinds}, which no published model has")

    def _numbers(self, kind: int, count: int, name: str) -> np.ndarray:
        dtype = _SCALARS[kind]
        if count > self.left // dtype.itemsize:
            raise UserError(f"setting {_shown(name)} goes beyond the end of the file: download it again")
        array = np.frombuffer(self.file, np.uint8 if kind == _BOOL else dtype, count, self.at)
        self.at += array.nbytes
        if kind == _BOOL:
            if count and array.max() > 1:
                raise UserError(f"setting {_shown(name)} is neither true nor false: a damaged header")
            array = array.view(bool)
        return array

    def _texts(self, count: int, name: str) -> list[str]:
        """`string`, as a loop without calls: a vocabulary has a quarter of a million."""
        texts, file, at, end = [], self.file, self.at, self.end
        length_at = struct.Struct("<Q").unpack_from
        try:
            for _ in range(count):
                start = at + 8
                at = start + length_at(file, at)[0]
                if at > end:
                    raise UserError(f"setting {_shown(name)} goes beyond the end of the file: download it again")
                texts.append(file[start:at].decode())
        except struct.error:
            raise UserError(f"setting {_shown(name)} goes beyond the end of the file: download it again") from None
        except UnicodeDecodeError:
            raise UserError(f"setting {_shown(name)}, text {len(texts):,} is not UTF-8: download it again") from None
        self.at = at
        return texts

    def _tensors(self, count: int, alignment: int) -> dict[str, TensorInfo]:
        listed = [self._tensor() for _ in range(count)]
        base = -(-self.at // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for name, shape, kind, offset, size in listed:
            if name in tensors:
                raise UserError(f"tensor {_shown(name)} is there twice: a damaged header; download it again")
            if offset % alignment:
                raise UserError(f"tensor {_shown(name)} is not aligned to {alignment}: a damaged header")
            if base + offset + size > self.end:
                raise UserError(f"tensor {_shown(name)} goes beyond the end of the file: download it again, whole")
            tensors[name] = TensorInfo(name, shape, kind, base + offset, size)
        previous = None
        for tensor in sorted(tensors.values(), key=lambda tensor: tensor.start):
            if previous is not None and tensor.start < previous.start + previous.size:
                raise UserError(f"tensors {_shown(previous.name)} and {_shown(tensor.name)} overlap: a damaged header")
            previous = tensor
        return tensors

    def _tensor(self) -> tuple[str, tuple[int, ...], Type, int, int]:
        name = self.string(_LONGEST_NAME, "the name of a tensor")
        dimensions = self.integer("<I")
        if not 1 <= dimensions <= 4:
            raise UserError(f"tensor {_shown(name)} has {dimensions} dimensions: a damaged header; download it again")
        shape = tuple(self.integer("<Q") for _ in range(dimensions))[::-1]
        kind = type_of(self.integer("<I"), _shown(name))
        weights = 1
        for size in shape:
            weights *= size
        if weights == 0 or weights > 8 * self.end or shape[-1] % kind.weights:
            raise UserError(f"tensor {_shown(name)} cannot have shape {list(shape)} in {kind.name}: a damaged header")
        return name, shape, kind, self.integer("<Q"), kind.size(weights)

    @property
    def left(self) -> int:
        return self.end - self.at

    def integer(self, form: str) -> int:
        try:
            (value,) = struct.unpack_from(form, self.file, self.at)
        except struct.error:
            raise UserError("the file ends within its header: download it again, whole") from None
        self.at += struct.calcsize(form)
        return value

    def string(self, longest: int, what: str) -> str:
        length = self.integer("<Q")
        if length > min(longest, self.left):
            raise UserError(f"{what} would be {length:,} bytes long: a damaged header; download the file again")
        raw = self.file[self.at : self.at + length]
        self.at += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise UserError(f"{what} is not UTF-8: a damaged header; download the file again") from None


def plain(name: str) -> str:
    """A name from the file, short enough for one line and without what would move a terminal's cursor."""
    return name if name.isprintable() and len(name) <= 80 else _shown(name)


def _shown(value: Value) -> str:
    """A value from the file, short enough for one line whatever it holds."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
