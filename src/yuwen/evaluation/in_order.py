"""A permuted model on the scale of those that read forwards: of all the orders it knows, the one from left to right.

    log p(x) = sum_t log p(x_t | x_<t)          (Yang et al. 2019, eq. 3, for the factorisation order 1 … T)

Its query stream tells each token from those before it alone, so this is a likelihood, and no pseudo-likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yuwen.models.xlnet import TwoStream


class InOrder:
    """Answers as a `LeftToRight` does: hidden states whose place t tells token t + 1, and the nats of targets."""

    def __init__(self, model: TwoStream) -> None:
        self.model, self.config = model, model.config

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.parameters()

    def __call__(self, ids_BT: Tensor, cache: Any = None) -> Tensor:
        B, T = ids_BT.shape
        order_BT = torch.arange(T, device=ids_BT.device).expand(B, T)
        places_BP = torch.arange(1, T, device=ids_BT.device).expand(B, T - 1)
        return F.pad(self.model.predict(ids_BT, order_BT, places_BP), (0, 0, 0, 1))  # nothing follows the last

    def nats(self, h_ND: Tensor, targets_N: Tensor) -> Tensor:
        """-log p of each target, in fp32, [N]."""
        return F.cross_entropy(self.model.output(h_ND[None])[0].float(), targets_N, reduction="none")
