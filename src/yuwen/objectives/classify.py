"""Which class a text is of: what a pretrained body is fine-tuned by (Devlin et al. 2019, section 4.1).

loss = - sum_i w(y_i) log p(y_i | x_i),   p = softmax(scores)

With `consistency` every text is read twice, with other dropout, and the two answers p, q shall agree: the loss is the
mean of both, and consistency / 2 x (KL(p | q) + KL(q | p)) beside it (Liang et al. 2021, R-Drop, eqs. 2 to 4, scaled as
in its authors' code).

With `language` every text also goes on teaching what it taught before it had a label: `rate` of its tokens are hidden,
and the loss is classes + language x the mean of - log p(hidden token) (Radford et al. 2018, eq. 5, whose model reads
forwards and tells the next token; here the model reads both sides and the two tasks read the text apart, for with holes
in it a class is harder to tell). The head for words is trained on and kept beside the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.config import Config, nearest
from yuwen.data.framing import Frame, framed
from yuwen.errors import UserError
from yuwen.nn import LinearCrossEntropy
from yuwen.objectives.masked import IGNORE, Masking, MaskingConfig, at, tensors, told
from yuwen.objectives.objective import Batch, Term
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.data import Rows
    from yuwen.models import Classifier
    from yuwen.models.config import Reads


class ClassifyConfig(Config):
    """`label_smoothing` mixes the target with the uniform distribution; `class_weights` multiplies the loss of a
    label's rows, 1 where it names none; `consistency` weighs how far two readings of a text differ; `language` weighs
    the telling of hidden tokens, `rate` of each text's."""

    name: Literal["classify"] = "classify"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: dict[str, Annotated[float, Field(gt=0)]] = {}
    consistency: float = Field(default=0.0, ge=0)
    language: float = Field(default=0.0, ge=0)
    rate: float = Field(default=0.3, gt=0, lt=1)

    @model_validator(mode="after")
    def _no_setting_ignored(self) -> Self:
        if not self.language and self.rate != type(self).model_fields["rate"].default:
            raise ValueError(f"rate={self.rate} is how much language=0 hides: leave it out, or set language=1")
        if self.language and self.consistency:
            raise ValueError("consistency and language: give one of them")
        return self


class ClassifyObjective:
    """Rows of a text, or of two, with a label. The loss is divided by the rows, whatever they weigh."""

    reads: ClassVar[frozenset[Reads]] = frozenset({"forwards", "both", "permuted", "pairs"})
    rows: ClassVar[bool] = True
    together: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    least: ClassVar[int] = 3  # [CLS] a [SEP]; where there is more to frame, `data.framing` says so

    def __init__(self, config: ClassifyConfig, frame: Frame, vocabulary: Vocabulary | None = None) -> None:
        """UserError for `language` with a `vocabulary` that has no mask."""
        self.config, self.frame = config, frame
        self.masking = None
        if config.language:
            assert vocabulary is not None
            self.masking = Masking(MaskingConfig(rate=config.rate), vocabulary, config.name)
        self.cross_entropy = LinearCrossEntropy()

    def prepare(self, samples: Rows, rng: np.random.Generator) -> Batch:
        """UserError for rows without labels, or whose texts play other parts."""
        if samples.labels is None or "text" not in samples.fields:
            raise UserError("objective.name=classify needs data.fields with a text and a label")
        read = {name: torch.from_numpy(array) for name, array in framed(samples, self.frame).items()}
        read["labels"] = torch.from_numpy(samples.labels)
        batch = Batch(read, {"classify": len(samples.labels)}, tokens=int(read["keep"].sum()))
        if self.masking is not None:
            ids_BT = read["ids"].numpy()
            masked = self.masking(ids_BT, np.zeros(ids_BT.shape, bool), rng)
            batch.tensors |= {f"masked_{name}": tensor for name, tensor in tensors(masked).items()}
            batch.counts["masked"] = int((masked.targets != IGNORE).sum())
        return batch

    def loss(self, model: Classifier, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        read, consistency = batch.tensors, self.config.consistency if model.training else 0.0
        inputs: list[Any] = [read["ids"], read["keep"], read.get("segments")]
        if consistency:
            if not model.dropout.rate:
                raise UserError(
                    "objective.consistency compares two readings with other dropout, and this model has none: set"
                    " model.dropout=0.1"
                )
            inputs = [None if tensor is None else torch.cat((tensor, tensor)) for tensor in inputs]
        # R readings, B rows, L labels
        scores_RBL = model.classify(*inputs).float().unflatten(0, (-1, len(read["labels"])))
        readings = [
            F.cross_entropy(scores_BL, read["labels"], reduction="none", label_smoothing=self.config.label_smoothing)
            for scores_BL in scores_RBL
        ]
        summed_B = torch.stack(readings).mean(0)
        if consistency:
            summed_B = summed_B + consistency / 2 * _divergence(*scores_RBL.log_softmax(-1))
        if self.config.class_weights:
            summed_B = summed_B * self._weights(model.config.labels)[read["labels"]]
        terms = {"classify": Term(summed_B.sum(), batch.counts["classify"])}
        if self.masking is not None:
            terms["masked"] = Term(self._hidden(model, read), batch.counts["masked"], self.config.language)
        return terms

    def check(self, labels: Sequence[str], of_rows: Sequence[str]) -> None:
        """UserError for rows of other labels than the model's, and for the weight of a label that is none of these."""
        if tuple(of_rows) != tuple(labels):
            raise UserError(
                f"the rows have the labels {', '.join(of_rows[:9])}, the model {', '.join(labels[:9])}: the data is not"
                " what this run began with; choose another --out"
            )
        self._weights(tuple(labels))

    def modules(self) -> list[nn.Module]:
        return [self.cross_entropy]

    def _hidden(self, model: Classifier, read: Mapping[str, Tensor]) -> Tensor:
        """Summed cross-entropy of the hidden tokens of all texts."""
        h_BTD = model.states(read["masked_ids"], read["keep"], read.get("segments"))
        at_BPD = at(h_BTD, read["masked_places"])
        return told(self.cross_entropy, model.body, at_BPD, read["masked_targets"])

    def _weights(self, labels: tuple[str, ...]) -> Tensor:
        for label in self.config.class_weights:
            if label not in labels:
                raise UserError(f"objective.class_weights: unknown label {label!r}: {nearest(label, list(labels))}")
        return torch.tensor([self.config.class_weights.get(label, 1.0) for label in labels])


def _divergence(p_BL: Tensor, q_BL: Tensor) -> Tensor:
    """KL(p | q) + KL(q | p) of each row, both given by their logarithms: sum_l (p_l - q_l) (log p_l - log q_l)."""
    return ((p_BL.exp() - q_BL.exp()) * (p_BL - q_BL)).sum(-1)
