"""Left to right: each token is predicted from those before it.

loss = - sum_t log p(x_t | x_1 … x_{t-1})          (Bengio et al. 2003, eq. 1; Radford et al. 2018, eq. 1)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from yuwen.config import Config
from yuwen.nn import Causal, Documents, LinearCrossEntropy
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives.objective import Batch, Term

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import LeftToRight


class CausalConfig(Config):
    """`label_smoothing` mixes the target with the uniform distribution; without `across_documents` a token sees and is
    predicted from its own document only."""

    name: Literal["causal"] = "causal"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    across_documents: bool = True


class CausalObjective:
    """Next-token prediction over packed windows: ids [B, T+1] give T inputs and T targets, none of them padding."""

    def __init__(self, config: CausalConfig | None = None) -> None:
        self.config = config or CausalConfig()
        self.cross_entropy = LinearCrossEntropy(smoothing=self.config.label_smoothing)

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        ids = torch.from_numpy(samples.ids)
        tensors = {"ids": ids[:, :-1].contiguous(), "targets": ids[:, 1:].contiguous()}
        if not self.config.across_documents:
            documents = torch.from_numpy(samples.documents)
            tensors["documents"] = documents[:, :-1].contiguous()
            starts = documents[:, 1:] != documents[:, :-1]
            # nothing before a document's first token says what it is (not in place: the inputs may share this memory)
            tensors["targets"] = tensors["targets"].masked_fill(starts, IGNORE)
        counted = int((tensors["targets"] != IGNORE).sum())
        return Batch(tensors, {"loss": counted}, tokens=tensors["ids"].numel())

    def loss(self, model: LeftToRight, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        documents = batch.tensors.get("documents")
        mask = Causal() if documents is None else Causal() & Documents(documents)
        h_BTD = model(batch.tensors["ids"], mask)
        targets_N = batch.tensors["targets"].flatten()
        h_ND = model.readout(h_BTD).flatten(0, 1)
        summed = self.cross_entropy(h_ND, model.head.weight, model.head.bias, targets_N)
        return {"loss": Term(summed, batch.counts["loss"])}

    def modules(self) -> list[nn.Module]:
        return [self.cross_entropy]
