"""Muon: momentum whose every singular direction is made equally long (Jordan et al. 2024).

    M <- mu M + (1 - mu) G;    W <- W - lr * sqrt(max(1, rows / columns)) * orthogonal((1 - mu) G + mu M)

orthogonal(X) is U V^T of X = U S V^T, found without a decomposition by a few Newton-Schulz steps
X <- a X + (b A + c A^2) X with A = X X^T, which need only products, in bf16 where the model computes in it.
Matrices of one shape go as one batch.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

# Quintic coefficients of Jordan et al.: steepest at 0, so that small singular values reach 1 +- 0.3 in five steps.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(x_nRC: Tensor, iterations: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """U V^T of each matrix, roughly: singular values end between 0.7 and 1.2. [n, R, C] -> [n, R, C] in `dtype`."""
    a, b, c = _COEFFICIENTS
    tall = x_nRC.shape[1] > x_nRC.shape[2]
    x = (x_nRC.mT if tall else x_nRC).to(dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.01 + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Moves matrices. `lr` is the spectral length of an update; `weight_decay` is decoupled.

    Products run in `dtype`.
    """

    def __init__(
        self,
        params: list[Tensor] | list[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self.dtype = dtype
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "iterations": iterations}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One move of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                gradients = [weight.grad for weight in weights if weight.grad is not None]
                for weight in weights:
                    if "momentum" not in self.state[weight]:
                        self.state[weight]["momentum"] = torch.zeros_like(weight)
                momenta = [self.state[weight]["momentum"] for weight in weights]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                looked_ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
                updates = orthogonalise(torch.stack(looked_ahead), group["iterations"], self.dtype).float()
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, list(updates.unbind()), alpha=-rate)
