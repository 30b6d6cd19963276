"""Sentences as vectors: like ones close, others apart (van den Oord et al. 2018; Gao et al. 2021, SimCSE, eqs. 1, 5).

loss = - sum_i log  e^{s(i, i+)} / sum_j ( e^{s(i, j+)} + e^{s(i, j-)} )        s(i, j) = cos(h_i, h_j) / temperature

- Unsupervised (rows with a text): i+ is the same sentence read once more with other dropout (section 3).
- Supervised (rows with anchor and positive, and a negative if there is one): i+ is the positive; besides the positives
  of all other rows every row's negative stands against it ("hard negatives", section 4).

h is the mean of a text's states, frame included, as `yuwen apply embed` makes it; the paper takes the first state
through a layer of its own while it learns, and finds the mean about as good (table 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from yuwen.config import Config
from yuwen.data.framing import Frame, padded
from yuwen.errors import UserError
from yuwen.nn import Padding
from yuwen.objectives.objective import Batch, Term

if TYPE_CHECKING:
    from yuwen.data.buckets import Rows
    from yuwen.models import Encoder
    from yuwen.models.config import Reads


class ContrastiveConfig(Config):
    """`temperature` divides the cosines: the smaller, the more the nearest of the others count."""

    name: Literal["contrastive"] = "contrastive"
    temperature: float = Field(default=0.05, gt=0, le=10)


class ContrastiveObjective:
    """InfoNCE over the rows of a batch, which all see each other.

    `gather` gives the vectors [N, D] of all processes and where this one's begin; the loop sets it for many. Only
    training asks it: when a model is measured every process reads the same rows, and each would meet its positives
    again among the negatives.
    """

    reads: ClassVar[frozenset[Reads]] = frozenset({"both", "permuted"})
    rows: ClassVar[bool] = True
    together: ClassVar[bool] = True
    fewest: ClassVar[int] = 2
    least: ClassVar[int] = 3  # [CLS] a [SEP]

    def __init__(self, config: ContrastiveConfig, frame: Frame) -> None:
        self.config, self.frame = config, frame
        self.gather: Callable[[Tensor], tuple[Tensor, int]] = _alone

    def prepare(self, samples: Rows, rng: np.random.Generator) -> Batch:
        fields = samples.fields
        if set(fields) == {"text"}:
            columns = [fields["text"]]
        elif {"anchor", "positive"} <= set(fields):
            columns = [fields[name] for name in ("anchor", "positive", "negative") if name in fields]
        else:
            raise UserError(
                "objective.name=contrastive learns from a text, or from anchor, positive and perhaps negative: name"
                f" these in data.fields, which has {', '.join(fields)}"
            )
        rows = [self.frame(ids, None, samples.length)[0] for column in columns for ids in column]
        ids, keep = padded(rows, self.frame.pad, samples.length)
        B = len(columns[0])
        tensors = {"ids": torch.from_numpy(ids), "keep": torch.from_numpy(keep)}
        return Batch(tensors, {"contrastive": B}, tokens=int(keep.sum()))

    def loss(self, model: Encoder, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        ids, keep, B = batch.tensors["ids"], batch.tensors["keep"], batch.counts["contrastive"]
        if len(ids) == B:  # each sentence read twice
            if model.training and not model.config.dropout:
                raise UserError(
                    "objective.name=contrastive on texts alone learns from dropout, and this model has none: set"
                    " model.dropout=0.1"
                )
            ids, keep = torch.cat((ids, ids)), torch.cat((keep, keep))
        vectors_ND = self.vectors(model, ids, keep)
        gather = self.gather if model.training else _alone
        anchors_BD, others = vectors_ND[:B], [gather(part) for part in vectors_ND[B:].split(B)]
        scores_BM = anchors_BD @ torch.cat([part for part, _ in others]).T / self.config.temperature
        own_B = others[0][1] + torch.arange(B, device=scores_BM.device)
        return {"contrastive": Term(F.cross_entropy(scores_BM, own_B, reduction="sum"), B)}

    def vectors(self, model: Encoder, ids_NT: Tensor, keep_NT: Tensor) -> Tensor:
        """The texts as unit vectors, fp32 [N, D]."""
        h_NTD = model(ids_NT, Padding(keep_NT)).float()
        mean_ND = (h_NTD * keep_NT[..., None]).sum(1) / keep_NT.sum(1, keepdim=True)
        return F.normalize(mean_ND, dim=-1)

    def modules(self) -> list[nn.Module]:
        return []


def _alone(vectors_ND: Tensor) -> tuple[Tensor, int]:
    """The vectors of all processes, where there is no other."""
    return vectors_ND, 0
