"""Left to right: each token is predicted from those before it.

loss = - sum_t log p(x_t | x_1 … x_{t-1})          (Bengio et al. 2003, eq. 1; Radford et al. 2018, eq. 1)
     + ar mean (m * h_t)^2 + tar mean (h_t - h_{t-1})^2    (Merity, McCann & Socher 2017, section 2: AR and TAR)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.config import Config
from yuwen.errors import UserError
from yuwen.nn import Causal, Documents, LinearCrossEntropy
from yuwen.nn.cross_entropy import IGNORE
from yuwen.nn.sampled import SampledCrossEntropy, candidates
from yuwen.objectives import carry
from yuwen.objectives.objective import Batch, Term

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import LeftToRight
    from yuwen.models.config import Reads


class CausalConfig(Config):
    """`label_smoothing` mixes the target with the uniform distribution; without `across_documents` a token sees and is
    predicted from its own document only. `ar` weighs a penalty on large states, as the head reads them (m drops some
    out), `tar` one on states that change fast. With `candidates` the softmax of training runs over the words of so many
    draws instead of the whole vocabulary (`nn.sampled`), for ids by falling frequency: kind=word."""

    name: Literal["causal"] = "causal"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    across_documents: bool = True
    ar: float = Field(default=0.0, ge=0)
    tar: float = Field(default=0.0, ge=0)
    candidates: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.candidates and self.label_smoothing:
            raise ValueError("candidates and label_smoothing: smoothing needs the whole vocabulary; leave one out")
        return self


class CausalObjective:
    """Next-token prediction over packed windows: ids [B, T+1] give T inputs and T targets, none of them padding.

    Where the windows read on (`data.Streams`), the model begins with the state that the one before left behind.
    """

    reads: ClassVar[frozenset[Reads]] = frozenset({"forwards"})
    rows: ClassVar[bool] = False
    together: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    least: ClassVar[int] = 2  # as what is held out is read by windows that share one

    def __init__(self, config: CausalConfig | None = None, vocabulary: int | None = None) -> None:
        """`vocabulary`: how many ids there are to draw `candidates` from."""
        self.config = config or CausalConfig()
        self.cross_entropy = LinearCrossEntropy(smoothing=self.config.label_smoothing)
        self.sampled = SampledCrossEntropy()
        self.vocabulary = vocabulary or 0
        if self.config.candidates and self.config.candidates >= self.vocabulary:
            raise UserError(
                f"objective.candidates={self.config.candidates} is no part of {self.vocabulary} words: leave it out"
            )

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
        if self.config.candidates:
            tensors["drawn"], tensors["log_pi"] = candidates(self.vocabulary, self.config.candidates, rng)
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
        asked = read_BTD.flatten(0, 1), model.head.weight, model.head.bias, batch.tensors["targets"].flatten()
        if "drawn" in batch.tensors:
            summed = self.sampled(*asked, batch.tensors["drawn"], batch.tensors["log_pi"])
        else:
            summed = self.cross_entropy(*asked)
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
