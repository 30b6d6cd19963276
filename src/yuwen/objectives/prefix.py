"""A prefix is read from both sides, what follows is written (Liu et al. 2018; Raffel et al. 2020, section 3.2.1).

loss = - sum_{t >= p} log p(x_t | x_0 … x_{t-1}), positions below p seeing each other both ways

p is drawn anew for each window, uniformly. One decoder does both by a mask (figure 3, right), or an encoder reads the
prefix and a decoder writes the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from yuwen.config import Config
from yuwen.nn import LinearCrossEntropy, Prefix
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives.masked import told
from yuwen.objectives.objective import Batch, Term
from yuwen.objectives.pairs import FRAME, PairsObjective
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import LeftToRight
    from yuwen.models.config import Reads


class PrefixConfig(Config):
    """Nothing to set."""

    name: Literal["prefix"] = "prefix"


class PrefixObjective:
    """For a decoder: ids [B, T+1] give T inputs, and a target for each token behind the prefix."""

    reads: ClassVar[frozenset[Reads]] = frozenset({"forwards"})
    rows: ClassVar[bool] = False
    together: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    least: ClassVar[int] = 1

    def __init__(self, config: PrefixConfig, vocabulary: Vocabulary) -> None:
        self.config = config
        self.cross_entropy = LinearCrossEntropy()

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        B, T = samples.ids.shape[0], samples.ids.shape[1] - 1
        prefix_B = rng.integers(1, T + 1, B)
        targets_BT = np.where(np.arange(1, T + 1) >= prefix_B[:, None], samples.ids[:, 1:], IGNORE)
        arrays = {"ids": samples.ids[:, :-1].copy(), "prefix": prefix_B, "targets": targets_BT}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Batch(tensors, {"prefix": int((targets_BT != IGNORE).sum())}, tokens=B * T)

    def loss(self, model: LeftToRight, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        h_BTD = model(batch.tensors["ids"], Prefix(batch.tensors["prefix"]))
        summed = told(self.cross_entropy, model, h_BTD, batch.tensors["targets"])
        return {"prefix": Term(summed, batch.counts["prefix"])}

    def modules(self) -> list[nn.Module]:
        return [self.cross_entropy]


class PrefixPairsObjective(PairsObjective):
    """For an encoder–decoder: of T ids of a window T - 2 are read; both sides hold one token at least."""

    least: ClassVar[int] = FRAME + 2
    name: ClassVar[str] = "prefix"

    def __init__(self, config: PrefixConfig, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self.config = config

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        B, T = samples.ids.shape[0], samples.ids.shape[1] - 1
        width = T - FRAME
        text_BT = samples.ids[:, :width]
        read_BT = np.arange(width) < rng.integers(1, width, B)[:, None]
        return self.batch((text_BT, read_BT), (text_BT, ~read_BT), (width + 1, width), tokens=B * T)
