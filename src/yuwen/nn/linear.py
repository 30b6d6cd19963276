"""Several linear maps of the same input, as one product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEW = 256  # below this many positions, laying the weights side by side costs more than it saves


def together(x_BTD: Tensor, *maps: nn.Linear) -> list[Tensor]:
    """[map(x) for map in maps]; in training as one matrix product, which fills the processor better than several.

    x [B, T, D] -> one [B, T, outputs] for each map. The weights stay separate parameters, as published and as Muon
    wants them.
    """
    if x_BTD.shape[:-1].numel() < _FEW or any((m.bias is None) != (maps[0].bias is None) for m in maps):
        return [map(x_BTD) for map in maps]
    weight = torch.cat([map.weight for map in maps])
    bias = None if maps[0].bias is None else torch.cat([map.bias for map in maps])
    return list(F.linear(x_BTD, weight, bias).split([map.out_features for map in maps], dim=-1))
