"""Attention as one operator in C, for training in bfloat16 on processors that multiply it (`native/attention.c`).

Within a compiled graph it takes the place of the strips of `nn.strips`: scores never leave the core's cache, q, k and v
are read where the projections wrote them, and the output is written as the next projection reads it. In both directions
a key-value head, with the query heads that read it, is one thread's work, and the bits are the same every time.
"""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yuwen import native

_FLAGS = ["-fopenmp", "-mfma", *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "bf16"))]
_LONGEST = 1024  # the backward pass keeps a head's scores: 2 T^2 bytes for each core
_library: Any = None
_ready = False  # read where graphs are made


class _View(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("batch", "head", "row"))]


class _Shape(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("threads", "batch", "heads", "groups", "length", "width", "causal")),
        ("scale", ctypes.c_float),
        ("dropped", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
    ]


def prepare() -> str | None:
    """Makes the operator ready for graphs compiled from now on; None, or the reason why there is none."""
    global _library, _ready
    if _ready:
        return None
    if not torch.cpu._is_avx512_bf16_supported():
        return "the processor has no AVX512_BF16"
    try:
        _library = native.library(Path(__file__).with_name("native") / "attention.c", _FLAGS)
    except native.Unavailable as error:
        return str(error)
    _library.forward.argtypes = [*[_View] * 4, ctypes.c_void_p, _Shape]
    _library.backward.argtypes = [*[_View] * 5, ctypes.c_void_p, *[_View] * 3, _Shape]
    _ready = True
    return None


def suits(q_BHTK: Tensor, k_BGSK: Tensor) -> bool:
    """Whether the operator may stand in a graph that is being made: whole sequences in bfloat16, sixteen by sixteen."""
    T, K = q_BHTK.shape[2:]
    return (
        _ready
        and torch.compiler.is_compiling()
        and q_BHTK.dtype == torch.bfloat16
        and q_BHTK.device.type == "cpu"
        and k_BGSK.shape[2] == T <= _LONGEST
        and T % 16 == 0
        and K % 16 == 0
    )


def attention(
    q_BHTK: Tensor,
    k_BGTK: Tensor,
    v_BGTK: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    rate: float = 0.0,
) -> Tensor:
    """softmax(scale Q K^T (+ causal)) V, its weights dropped out with probability `rate`; `scale` is 1 / sqrt(K).

    q [B, H, T, K], k and v [B, G, T, K], H a multiple of G -> [B, H, T, K].
    """
    factor = 1 / math.sqrt(q_BHTK.shape[-1]) if scale is None else scale
    seed = torch.randint(2**63 - 1, (1,)) if rate else torch.zeros(1, dtype=torch.int64)
    out_BHTK, _ = torch.ops.yuwen.attention(q_BHTK, k_BGTK, v_BGTK, seed, causal, factor, rate)
    return out_BHTK


def _forward(
    q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, seed: Tensor, causal: bool, scale: float, rate: float
) -> tuple[Tensor, Tensor]:
    """(out [B, H, T, K], log of the sum of exponentials [B, H, T])."""
    q, k, v = map(_readable, (q_BHTK, k_BGTK, v_BGTK))
    out, lse_BHT = _like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    failed = _library.forward(*map(_view, (q, k, v, out)), lse_BHT.data_ptr(), _shape(q, k, seed, causal, scale, rate))
    return _checked(failed, (out, lse_BHT))


def _backward(
    d_BHTK: Tensor,
    q_BHTK: Tensor,
    k_BGTK: Tensor,
    v_BGTK: Tensor,
    out_BHTK: Tensor,
    lse_BHT: Tensor,
    seed: Tensor,
    causal: bool,
    scale: float,
    rate: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v from that of the output."""
    d, q, k, v, out = map(_readable, (d_BHTK, q_BHTK, k_BGTK, v_BGTK, out_BHTK))
    made = _like(q), _like(k), _like(v)
    failed = _library.backward(
        *map(_view, (d, q, k, v, out)), lse_BHT.data_ptr(), *map(_view, made), _shape(q, k, seed, causal, scale, rate)
    )
    return _checked(failed, made)


def _like(x_BHTK: Tensor) -> Tensor:
    """Room for as much, laid out as the projections read and write: [B, T, H, K]."""
    B, H, T, K = x_BHTK.shape
    return x_BHTK.new_empty(B, T, H, K).transpose(1, 2)


def _readable(x_BHTK: Tensor) -> Tensor:
    """The tensor itself if its rows can be read two numbers at a time, else a copy."""
    aligned = x_BHTK.data_ptr() % 4 == 0 and all(stride % 2 == 0 for stride in x_BHTK.stride()[:3])
    return x_BHTK if aligned and x_BHTK.stride(3) == 1 else x_BHTK.contiguous()


def _view(x_BHTK: Tensor) -> _View:
    return _View(x_BHTK.data_ptr(), *x_BHTK.stride()[:3])


def _shape(q_BHTK: Tensor, k_BGTK: Tensor, seed: Tensor, causal: bool, scale: float, rate: float) -> _Shape:
    B, H, T, K = q_BHTK.shape
    threads = torch.get_num_threads()  # said, because the library may have found an OpenMP of its own
    return _Shape(threads, B, H, k_BGTK.shape[1], T, K, causal, scale, int(rate * 2**32), int(seed))


def _checked(failed: int, made: Any) -> Any:
    if failed:
        raise MemoryError("not enough memory for attention")
    return made


_operator = torch.library.custom_op("yuwen::attention", _forward, mutates_args=())
_backward_operator = torch.library.custom_op("yuwen::attention_backward", _backward, mutates_args=())


@_operator.register_fake
def _(
    q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, seed: Tensor, causal: bool, scale: float, rate: float
) -> tuple[Tensor, Tensor]:
    return _like(q_BHTK), q_BHTK.new_empty(q_BHTK.shape[:3], dtype=torch.float32)


@_backward_operator.register_fake
def _(
    d_BHTK: Tensor,
    q_BHTK: Tensor,
    k_BGTK: Tensor,
    v_BGTK: Tensor,
    out_BHTK: Tensor,
    lse_BHT: Tensor,
    seed: Tensor,
    causal: bool,
    scale: float,
    rate: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(q_BHTK), _like(k_BGTK), _like(v_BGTK)


def _keep(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, bool, float, float], output: tuple[Tensor, Tensor]
) -> None:
    q_BHTK, k_BGTK, v_BGTK, seed, *ctx.settings = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q_BHTK, k_BGTK, v_BGTK, *output, seed)


def _differentiate(ctx: Any, d_BHTK: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    made = torch.ops.yuwen.attention_backward(d_BHTK, *ctx.saved_tensors, *ctx.settings)
    return (*made, None, None, None, None)


_operator.register_autograd(_differentiate, setup_context=_keep)
