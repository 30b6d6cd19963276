"""In which numbers a model is trained.

bf16 products run two to four times as fast as fp32 ones where the processor has them, but a weight in bf16 keeps only
8 bits and small updates vanish. So the weights that learn, the masters, stay fp32; the model computes with a bf16 copy
that is refreshed once a step (Micikevicius et al. 2018, section 3.1, without loss scaling: bf16 has fp32's range).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PRECISIONS = ("auto", "float32", "bfloat16")


def choose_precision(asked: str = "auto") -> tuple[torch.dtype, str]:
    """(dtype, why). "auto" takes bf16 only where the processor multiplies it natively: elsewhere fp32 is faster."""
    if asked == "float32":
        return torch.float32, "asked for"
    if asked == "bfloat16":
        return torch.bfloat16, "asked for"
    if torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16, "the processor has AVX512-BF16"
    if getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():
        return torch.bfloat16, "the processor has AMX"
    return torch.float32, "the processor has neither AVX512-BF16 nor AMX"


class Masters:
    """The fp32 weights that learn, and the model's working copy of them.

    In fp32 the two are the same tensors. Otherwise `collect` moves the copy's gradients onto the masters, adding up
    across micro-batches in fp32, and `publish` refreshes the copy.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.names = [name for name, _ in model.named_parameters()]
        if dtype == torch.float32:
            self.weights: list[Tensor] = list(model.parameters())
        else:
            self.weights = [p.detach().float().clone().requires_grad_() for p in model.parameters()]
            model.to(dtype)
        self.copies: list[Tensor] = list(model.parameters())

    def named(self) -> dict[str, Tensor]:
        """The masters by name."""
        return dict(zip(self.names, self.weights, strict=True))

    def collect(self) -> None:
        """Adds the copy's gradients to the masters' and forgets them."""
        if self.dtype == torch.float32:
            return
        for master, copy in zip(self.weights, self.copies, strict=True):
            if copy.grad is not None:
                if master.grad is None:
                    master.grad = copy.grad.float()
                else:
                    master.grad += copy.grad
                copy.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the model's copy, and drops the gradients."""
        if self.dtype != torch.float32:
            torch._foreach_copy_(self.copies, self.weights)
        for master in self.weights:
            master.grad = None
