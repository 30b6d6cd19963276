"""Linear maps: several of the same input as one product, and a quicker product where last digits do not count."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_quick: ContextVar[bool] = ContextVar("quick", default=False)
_FEW = 256  # below this many positions, laying the weights side by side costs more than it saves


class Linear(nn.Linear):
    """W x + b, [..., in] -> [..., out].

    `lr_scale` is how fast W is to learn beside other maps: one that is meant to stay smaller than they are, as T5's
    queries are, also moves by smaller steps.
    """

    lr_scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, [..., in] -> [..., out]."""
    if not torch.compiler.is_compiling() and _quick.get() and x.dtype == torch.float32 and x.device.type == "cpu":
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


@contextmanager
def quick_products() -> Iterator[None]:
    """Within, fp32 products go by oneDNN on processors whose AVX512 the usual library leaves idle; nothing can learn.

    They take less than half the time. Sums are in another order, so numbers differ in their last digits: enough for
    what is summed over many tokens, while single logits stay those of other programs only outside.
    """
    token = _quick.set(_idle())
    try:
        yield
    finally:
        _quick.reset(token)


def together(x_BTD: Tensor, *maps: nn.Linear) -> list[Tensor]:
    """[map(x) for map in maps]; of many positions as one matrix product, which fills the processor better than several.

    x [B, T, D] -> one [B, T, outputs] for each map. The weights stay separate parameters, as published and as Muon
    wants them.
    """
    if x_BTD.shape[:-1].numel() < _FEW or any((m.bias is None) != (maps[0].bias is None) for m in maps):
        return [map(x_BTD) for map in maps]
    weight = torch.cat([map.weight for map in maps])
    bias = None if maps[0].bias is None else torch.cat([map.bias for map in maps])
    return list(linear(x_BTD, weight, bias).split([map.out_features for map in maps], dim=-1))


@functools.cache
def _idle() -> bool:
    """Whether PyTorch multiplies fp32 by MKL on a processor with AVX512 that is not Intel's: MKL then uses AVX2."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    processor = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(processor.get("avx512_f")) and "AMD" in str(processor.get("cpu_name"))
