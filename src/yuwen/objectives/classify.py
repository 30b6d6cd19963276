"""Which class a text is of: what a pretrained body is fine-tuned by (Devlin et al. 2019, section 4.1).

loss = - sum_i w(y_i) log p(y_i | x_i),   p = softmax(scores)

With `consistency` every text is read twice, with other dropout, and the two answers p, q shall agree: the loss is the
mean of both, and consistency / 2 x (KL(p | q) + KL(q | p)) beside it (Liang et al. 2021, R-Drop, eqs. 2 to 4, scaled as
in its authors' code).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from yuwen.config import Config, nearest
from yuwen.data.framing import Frame, framed
from yuwen.errors import UserError
from yuwen.objectives.objective import Batch, Term

if TYPE_CHECKING:
    from yuwen.data import Rows
    from yuwen.models import Classifier
    from yuwen.models.config import Reads


class ClassifyConfig(Config):
    """`label_smoothing` mixes the target with the uniform distribution; `class_weights` multiplies the loss of a
    label's rows, 1 where it names none; `consistency` weighs how far two readings of a text differ."""

    name: Literal["classify"] = "classify"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    consistency: float = Field(default=0.0, ge=0)


class ClassifyObjective:
    """Rows of a text, or of two, with a label. The loss is divided by the rows, whatever they weigh."""

    reads: ClassVar[frozenset[Reads]] = frozenset({"forwards", "both", "permuted", "pairs"})
    rows: ClassVar[bool] = True
    together: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    least: ClassVar[int] = 3  # [CLS] a [SEP]; where there is more to frame, `data.framing` says so

    def __init__(self, config: ClassifyConfig, frame: Frame) -> None:
        self.config, self.frame = config, frame

    def prepare(self, samples: Rows, rng: np.random.Generator) -> Batch:
        """UserError for rows without labels, or whose texts play other parts."""
        if samples.labels is None or "text" not in samples.fields:
            raise UserError("objective.name=classify needs data.fields with a text and a label")
        tensors = {name: torch.from_numpy(array) for name, array in framed(samples, self.frame).items()}
        tensors["labels"] = torch.from_numpy(samples.labels)
        return Batch(tensors, {"classify": len(samples.labels)}, tokens=int(tensors["keep"].sum()))

    def loss(self, model: Classifier, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        tensors, consistency = batch.tensors, self.config.consistency if model.training else 0.0
        inputs: list[Any] = [tensors["ids"], tensors["keep"], tensors.get("segments")]
        if consistency:
            if not model.dropout.rate:
                raise UserError(
                    "objective.consistency compares two readings with other dropout, and this model has none: set"
                    " model.dropout=0.1"
                )
            inputs = [None if tensor is None else torch.cat((tensor, tensor)) for tensor in inputs]
        # R readings, B rows, L labels
        scores_RBL = model.classify(*inputs).float().unflatten(0, (-1, len(tensors["labels"])))
        readings = [
            F.cross_entropy(scores_BL, tensors["labels"], reduction="none", label_smoothing=self.config.label_smoothing)
            for scores_BL in scores_RBL
        ]
        summed_B = torch.stack(readings).mean(0)
        if consistency:
            summed_B = summed_B + consistency / 2 * _divergence(*scores_RBL.log_softmax(-1))
        if self.config.class_weights:
            summed_B = summed_B * self._weights(model.config.labels)[tensors["labels"]]
        return {"classify": Term(summed_B.sum(), batch.counts["classify"])}

    def check(self, labels: Sequence[str], of_rows: Sequence[str]) -> None:
        """UserError for rows of other labels than the model's, and for the weight of a label that is none of these."""
        if tuple(of_rows) != tuple(labels):
            raise UserError(
                f"the rows have the labels {', '.join(of_rows[:9])}, the model {', '.join(labels[:9])}: the data is not"
                " what this run began with; choose another --out"
            )
        self._weights(tuple(labels))

    def modules(self) -> list[nn.Module]:
        return []

    def _weights(self, labels: tuple[str, ...]) -> Tensor:
        for label in self.config.class_weights:
            if label not in labels:
                raise UserError(f"objective.class_weights: unknown label {label!r}: {nearest(label, list(labels))}")
        return torch.tensor([self.config.class_weights.get(label, 1.0) for label in labels])


def _divergence(p_BL: Tensor, q_BL: Tensor) -> Tensor:
    """KL(p | q) + KL(q | p) of each row, both given by their logarithms: sum_l (p_l - q_l) (log p_l - log q_l)."""
    return ((p_BL.exp() - q_BL.exp()) * (p_BL - q_BL)).sum(-1)
