"""Left to right: each token is predicted from those before it.

loss = - sum_t log p(x_t | x_1 … x_{t-1})          (Bengio et al. 2003, eq. 1; Radford et al. 2018, eq. 1)
     + ar mean (m * h_t)^2 + tar mean (h_t - h_{t-1})^2    (Merity, McCann & Socher 2017, section 2: AR and TAR)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from yuwen.config import Config
from yuwen.nn import Causal, Documents, LinearCrossEntropy
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import carry
from yuwen.objectives.objective import Batch, Term

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import LeftToRight
    from yuwen.models.config import Reads


class CausalConfig(Config):
    """`label_smoothing` mixes the target with the uniform distribution; without `across_documents` a token sees and is
    predicted from its own document only. `ar` weighs a penalty on large states, as the head reads them (m drops some
    out), `tar` one on states that change fast."""

    name: Literal["causal"] = "causal"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    across_documents: bool = True
    ar: float = Field(default=0.0, ge=0)
    tar: float = Field(default=0.0, ge=0)


class CausalObjective:
    """Next-token prediction over packed windows: ids [B, T+1] give T inputs and T targets, none of them padding.

    Where the windows read on (`data.Streams`), the model begins with the state that the one before left behind.
    """

    reads: ClassVar[frozenset[Reads]] = frozenset({"forwards"})
    rows: ClassVar[bool] = False
    together: ClassVar[bool] = False

    def __init__(self, config: CausalConfig | None = None) -> None:
        self.config = config or CausalConfig()
        self.cross_entropy = LinearCrossEntropy(smoothing=self.config.label_smoothing)

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        ids = torch.from_numpy(samples.ids)
        tensors = {"ids": ids[:, :-1].contiguous(), "targets": ids[:, 1:].contiguous(), **carry.streamed(samples)}
        if not self.config.across_documents:
            documents = torch.from_numpy(samples.documents)
            tensors["documents"] = documents[:, :-1].contiguous()
            starts = documents[:, 1:] != documents[:, :-1]
            # nothing before a document's first token says what it is (not in place: the inputs may share this memory)
            tensors["targets"] = tensors["targets"].masked_fill(starts, IGNORE)
            if "fresh" in tensors:
                tensors["fresh"] = tensors["fresh"] | torch.from_numpy(samples.document_starts[:, 0])
        B, T = tensors["ids"].shape
        counts = {"loss": int((tensors["targets"] != IGNORE).sum())}
        if self.config.ar:
            counts["ar"] = B * T
        if self.config.tar:
            counts["tar"] = B * (T - 1)
        return Batch(tensors, counts, tokens=B * T)

    def loss(self, model: LeftToRight, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        documents = batch.tensors.get("documents")
        mask = Causal() if documents is None else Causal() & Documents(documents)
        if "stream" in batch.tensors:
            memory = model.new_cache()
            carry.take(state, batch, memory)
            h_BTD = model(batch.tensors["ids"], mask, None, memory)
            carry.keep(state, batch, memory)
        else:
            h_BTD = model(batch.tensors["ids"], mask)
        read_BTD = model.readout(h_BTD)
        targets_N = batch.tensors["targets"].flatten()
        summed = self.cross_entropy(read_BTD.flatten(0, 1), model.head.weight, model.head.bias, targets_N)
        terms = {"loss": Term(summed, batch.counts["loss"])}
        if self.config.ar:
            terms["ar"] = Term(_squares(read_BTD), batch.counts["ar"], self.config.ar)
        if self.config.tar:
            terms["tar"] = Term(_squares(h_BTD[:, 1:] - h_BTD[:, :-1]), batch.counts["tar"], self.config.tar)
        return terms

    def modules(self) -> list[nn.Module]:
        return [self.cross_entropy]


def _squares(x_BTD: Tensor) -> Tensor:
    """The mean square of each position's coordinates, summed over all positions, in fp32."""
    return x_BTD.float().square().mean(-1).sum()
