"""What a token costs in training, counted where it is spent: every matrix product of one forward pass, times three.

A matrix of P parameters applied to a position takes 2 P operations forward and 4 P backward, for the gradients of its
input and of itself (Kaplan et al. 2020, table 1: 6 P in all). Counted are products as they happen, so a layer whose
weights are shared counts each time it is applied, an encoder-decoder by the positions that each half reads, a head by
the positions that have targets. Attention counts its two products of all queries with all keys, masked or not
(Chowdhery et al. 2022, appendix B: 12 x layers x width x length), whatever kernel computes them. Look-ups, norms and
activations are not counted, nor what the optimiser does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from yuwen.nn import Attention, CrossAttention
from yuwen.objectives import Batch, Objective

_TRAINED = 3  # forward and backward, in forward passes


def flops_per_token(model: nn.Module, objective: Objective, *batches: Batch) -> float:
    """Operations, forward and backward, per token of batches such as the objective prepares."""
    state: dict[str, Any] = {}
    with torch.no_grad():
        objective.loss(model, batches[0], state)  # what is carried from step to step is read from the second step on
        with _counted(model) as products:
            for batch in batches:
                objective.loss(model, batch, state)
    return _TRAINED * products.flops / sum(batch.tokens for batch in batches)


class _Products(TorchDispatchMode):
    """Adds up the operations of all matrix products while it is entered, but for those within attention's kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.within = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        count = _COUNTS.get(str(func.overloadpacket))
        if count is not None and not self.within:
            self.flops += count(*args)
        return func(*args, **(kwargs or {}))


@contextmanager
def _counted(model: nn.Module) -> Iterator[_Products]:
    products = _Products()

    def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
        (B, H, T, K), S = args[0].shape, args[1].shape[2]
        products.flops += 4 * B * H * T * S * K  # Q K^T, and what it weighs of V
        products.within += 1

    def leave(*_: Any) -> None:
        products.within -= 1

    owners = (module for module in model.modules() if isinstance(module, Attention | CrossAttention))
    scores = {module.score for module in owners}  # each once, though two may share one
    hooks = [score.register_forward_pre_hook(enter) for score in scores]
    hooks += [score.register_forward_hook(leave) for score in scores]
    try:
        with products:
            yield products
    finally:
        for hook in hooks:
            hook.remove()


def _mm(a: Tensor, b: Tensor, *_: Any) -> int:
    return 2 * math.prod(a.shape) * b.shape[-1]


def _addmm(_: Tensor, a: Tensor, b: Tensor, *__: Any) -> int:
    return _mm(a, b)


def _linear(x: Tensor, weight: Tensor, *_: Any) -> int:
    return 2 * math.prod(x.shape) * weight.shape[0]


def _recurrence(x_TBI: Tensor, input_weight: Tensor, recurrent_weight: Tensor, *_: Any) -> int:
    return 2 * x_TBI.shape[0] * x_TBI.shape[1] * (input_weight.numel() + recurrent_weight.numel())


# By name, because not every build of PyTorch has all of them.
_COUNTS: dict[str, Callable[..., int]] = {
    "aten.mm": _mm,
    "aten.bmm": _mm,
    "aten.addmm": _addmm,
    "aten.baddbmm": _addmm,
    "aten.linear": _linear,
    "mkldnn._linear_pointwise": _linear,
    "aten.mkldnn_rnn_layer": _recurrence,  # a whole layer of an LSTM
}
