"""The weights of a folder: safetensors files, memory-mapped, and nothing that could run code.

A safetensors file is an 8-byte header length, a JSON header of name → dtype, shape, byte range, and the bytes. The
library checks all of it before it maps anything (length at most 100 MB, ranges inside the file, bytes = shape x
dtype), so a lying header costs no memory; here its verdict becomes one line. The mapping is our own, so that a weight
that was converted can be let go: a model of another type than its file's never stands in memory in both.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from yuwen.errors import UserError
from yuwen.interop.json_file import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_INTEGERS = {"I64": torch.int64}  # tables to look up in: an n-gram model's keys
_TYPES = {**_FLOATS, **_INTEGERS}


class WeightFiles:
    """All weights of a folder by their published name. A tensor's bytes are read from the disk when first touched."""

    def __init__(self, folder: Path) -> None:
        self.files = find_weights(folder)
        self._places: dict[str, tuple[Path, mmap.mmap, int]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        for path in self.files:
            _check(path)
            with path.open("rb") as file:
                bytes_ = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            (length,) = struct.unpack("<Q", bytes_[:8])
            header = json.loads(bytes_[8 : 8 + length])
            header.pop("__metadata__", None)
            for name, said in header.items():
                if name in self._places:
                    raise UserError(f"{folder}: {name} is both in {self._places[name][0].name} and in {path.name}")
                begin, end = said["data_offsets"]
                self._places[name] = path, bytes_, 8 + length + begin
                self.shapes[name], self.dtypes[name] = tuple(said["shape"]), said["dtype"]
                size = math.prod(said["shape"]) * _TYPES[said["dtype"]].itemsize if said["dtype"] in _TYPES else None
                if size not in (None, end - begin) or 8 + length + end > len(bytes_):
                    raise UserError(f"{path}: damaged ({name} is not where its header says): download it again")

    def dtype(self, name: str, like: torch.dtype | None = None) -> torch.dtype:
        """The type a weight is stored in. UserError for one that cannot be loaded, or not in place of `like`.

        Integers in place of floating-point numbers are quantised weights.
        """
        known = _TYPES if like is None else _FLOATS if like.is_floating_point else _INTEGERS
        if self.dtypes[name] not in known:
            path = self._places[name][0]
            raise UserError(f"{path}: {name} is stored as {self.dtypes[name]}; only {', '.join(known)} can be loaded")
        return known[self.dtypes[name]]

    def tensor(self, name: str) -> Tensor:
        """A weight, mapped privately: writing to it never reaches the file."""
        _, bytes_, start = self._places[name]
        dtype, shape = self.dtype(name), self.shapes[name]
        if math.prod(shape) == 0:
            return torch.empty(shape, dtype=dtype)
        if start % dtype.itemsize:  # a header of an odd length: such numbers cannot be used where they lie
            copy = bytearray(bytes_[start : start + math.prod(shape) * dtype.itemsize])
            return torch.frombuffer(copy, dtype=dtype).view(shape)
        return torch.frombuffer(bytes_, dtype=dtype, count=math.prod(shape), offset=start).view(shape)

    def release(self, name: str) -> None:
        """Gives the memory of a weight's pages back; they are read anew when touched. Not after writing to them."""
        _, bytes_, start = self._places[name]
        end = start + math.prod(self.shapes[name]) * self.dtype(name).itemsize
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if hasattr(bytes_, "madvise") and first < last:
            bytes_.madvise(mmap.MADV_DONTNEED, first, last - first)


def find_weights(folder: Path) -> list[Path]:
    """The safetensors files of a folder, one or the shards of an index, sorted. UserError if there are none."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        return _shards(folder / INDEX)
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt") and p.is_file())
    if pickles:
        raise UserError(
            f"{folder}: {pickles[0]} is a pickle, which can run code when opened: never loaded here; convert it once, "
            "where you trust it: transformers.AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    raise UserError(f"{folder}: no weights ({SINGLE} or {INDEX}): is it the folder of a model?")


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index}: no weight_map: download it again")
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{index}: {name!r} is not the name of a safetensors file in the same folder")
    names = set(weight_map.values())
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        raise UserError(f"{index.parent}: {few(missing)} missing of {len(names)} shards: download again")
    return [index.parent / name for name in sorted(names)]


def _check(path: Path) -> None:
    """Raises UserError for anything but a safetensors file whose header tells the truth about it."""
    try:
        safe_open(path, framework="pt")
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        with path.open("rb") as file:
            if file.read(4).startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
                reason = "it begins as a pickle does, which can run code when opened and never is"
        raise UserError(f"{path}: damaged or not a safetensors file ({reason}): download or write it again") from None


def save_weights(path: Path, weights: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Writes weights to one safetensors file, integers as they are. OSError when the disk refuses."""
    tensors = {
        name: (tensor.detach().to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in weights.items()
    }
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def few(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
