"""Masked words and sentence order: which of two neighbouring pieces came first? (Lan et al. 2020, section 3.1)

loss = masked words - sum_b log p(swapped_b | pooled [CLS])

Both pieces are always neighbours of one document, so their topic tells nothing; half of the time they are swapped
(answer 1). Words are hidden in n-grams of up to three, p(n) ~ 1/n (section 4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from yuwen.objectives.masked import MaskingConfig
from yuwen.objectives.sentences import Piece, SentencePairs, cut

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import Encoder


class SentenceOrderConfig(MaskingConfig):
    """How words are masked beside it."""

    name: Literal["sentence_order"] = "sentence_order"
    ngrams: int = Field(default=3, ge=1, le=16)


class SentenceOrderObjective(SentencePairs):
    """ALBERT's two tasks at once."""

    name: ClassVar[str] = "sentence_order"

    def lay_out(self, samples: Sample, width: int, rng: np.random.Generator) -> tuple[Piece, Piece, np.ndarray]:
        rows_B = np.arange(len(samples.ids))
        cut_B = cut(samples, width, rng)
        before = Piece(rows_B, np.zeros_like(cut_B), cut_B)
        after = Piece(rows_B, cut_B, width - cut_B)
        swapped_B = rng.random(len(rows_B)) < 0.5
        first, second = (
            Piece(rows_B, *(np.where(swapped_B, theirs, ours) for ours, theirs in zip(one[1:], other[1:], strict=True)))
            for one, other in ((before, after), (after, before))
        )
        return first, second, swapped_B.astype(np.int64)

    def answer(self, model: Encoder, h_BTD: Tensor) -> Tensor:
        return model.sentence_order(h_BTD)
