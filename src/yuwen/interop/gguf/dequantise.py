"""Stored blocks → weights, in the type that is computed with.

A block of 32 weights w_i keeps small integers q_i and a scale d (and in the `_1` types a minimum m), as fp16:

    Q8_0   w = d q,        q of 8 bits           Q4_0, Q5_0   w = d (q - 8),  d (q - 16)
    Q4_1, Q5_1   w = d q + m                     IQ4_NL       w = d table[q]

The K types put eight to sixteen such blocks into one of 256, whose scales and minima are quantised themselves (ggml's
ggml-quants.c). Here the types of 32 are unpacked by a few passes over pieces that stay in the processor's cache;
the K types and IQ4_NL go through `gguf.quants`, piece by piece too, so that no second copy of a tensor is ever made.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from yuwen.interop.gguf.header import TensorInfo

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Weights unpacked at once: they stay in the cache, and PyTorch splits nothing below 32,768 between threads, which would
# wait for each other ten times a piece.
_PIECE = 32_000


def read_tensor(file: mmap.mmap, info: TensorInfo, dtype: torch.dtype) -> Tensor:
    """A tensor of the file in `dtype`: a view of the mapped file where it is stored so, else memory of its own."""
    if info.type.is_float:
        count = info.size // info.type.bytes
        stored = torch.frombuffer(file, dtype=FLOATS[info.type.name], count=count, offset=info.start)
        return stored.reshape(info.shape).to(dtype)
    out = torch.empty(info.shape, dtype=dtype)
    flat = out.reshape(-1, info.type.weights)
    blocks = np.frombuffer(file, np.uint8, info.size, info.start).reshape(-1, info.type.bytes)
    unpack = _UNPACK.get(info.type.name)
    rows = _PIECE // info.type.weights
    for first in range(0, len(blocks), rows):
        piece, target = blocks[first : first + rows], flat[first : first + rows]
        if unpack is None:
            target.copy_(_by_gguf(piece, info.type.name))
        elif dtype == torch.float32:
            unpack(torch.from_numpy(piece), target)
        else:
            whole = torch.empty(target.shape)
            unpack(torch.from_numpy(piece), whole)
            target.copy_(whole)
    return out


def _by_gguf(blocks: np.ndarray, name: str) -> Tensor:
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(all="ignore"):  # a scale may be infinite: what comes of it is for the model's reader to see
        return torch.from_numpy(dequantize(blocks, GGMLQuantizationType[name]))


# Each takes blocks [N, bytes] and fills weights [N, 32] in fp32.


def _q8_0(blocks: Tensor, w: Tensor) -> None:
    w.copy_(blocks[:, 2:].view(torch.int8))
    w.mul_(_halves(blocks, 1))


def _q4_0(blocks: Tensor, w: Tensor) -> None:
    _nibbles(blocks[:, 2:], w)
    w.sub_(8).mul_(_halves(blocks, 1))


def _q4_1(blocks: Tensor, w: Tensor) -> None:
    _nibbles(blocks[:, 4:], w)
    halves = _halves(blocks, 2)
    w.mul_(halves[:, :1]).add_(halves[:, 1:])


def _q5_0(blocks: Tensor, w: Tensor) -> None:
    _fives(blocks[:, 2:6], blocks[:, 6:], w)
    w.sub_(16).mul_(_halves(blocks, 1))


def _q5_1(blocks: Tensor, w: Tensor) -> None:
    _fives(blocks[:, 4:8], blocks[:, 8:], w)
    halves = _halves(blocks, 2)
    w.mul_(halves[:, :1]).add_(halves[:, 1:])


_UNPACK: dict[str, Callable[[Tensor, Tensor], None]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
}


def _halves(blocks: Tensor, count: int) -> Tensor:
    """The fp16 numbers that each block begins with, [N, count] in fp32."""
    return blocks[:, : 2 * count].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor, w: Tensor) -> None:
    """16 bytes hold 32 numbers of 4 bits: the low halves are the first 16."""
    w[:, :16] = packed & 15
    w[:, 16:] = packed >> 4


def _fives(high: Tensor, packed: Tensor, w: Tensor) -> None:
    """As `_nibbles`, with each number's fifth bit in 4 bytes of their own."""
    _nibbles(packed, w)
    bits = (high[:, :, None] >> torch.arange(8, dtype=torch.uint8)) & 1  # bit i of byte j belongs to number 8 j + i
    w.add_(bits.reshape(len(w), 32), alpha=16)
