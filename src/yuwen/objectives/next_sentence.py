"""Masked words and next sentence: does the second piece follow the first? (Devlin et al. 2019, section 3.1, tasks 1, 2)

loss = masked words - sum_b log p(follows_b | pooled [CLS])

Half of the time the second piece is what follows (answer 0), half of the time it comes from another row of the batch,
that is from elsewhere in the corpus (answer 1), as long and from a sentence's beginning where there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from torch import Tensor

from yuwen.data.shards import DOCUMENT, SENTENCE
from yuwen.errors import UserError
from yuwen.objectives.masked import MaskingConfig
from yuwen.objectives.noise import pick
from yuwen.objectives.sentences import Piece, SentencePairs

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import Encoder


class NextSentenceConfig(MaskingConfig):
    """How words are masked beside it."""

    name: Literal["next_sentence"] = "next_sentence"


class NextSentenceObjective(SentencePairs):
    """BERT's two tasks at once."""

    name: ClassVar[str] = "next_sentence"
    fills: ClassVar[bool] = True
    fewest: ClassVar[int] = 2  # what does not follow is from another window

    def lay_out(self, samples: Sample, width: int, rng: np.random.Generator) -> tuple[Piece, Piece, np.ndarray]:
        B = len(samples.ids)
        if B < 2:
            raise UserError(
                "objective.name=next_sentence takes the second sentence from another window, and this batch has one:"
                " train.batch_tokens and train.micro_tokens must hold at least two windows of data.length"
            )
        rows_B = np.arange(B)
        cut_B = _cut(samples, width, rng)
        random_B = rng.random(B) < 0.5
        other_B = (rows_B + rng.integers(1, B, size=B)) % B
        sentences_BT, documents_BT = ((samples.flags[other_B, :width] & bit) != 0 for bit in (SENTENCE, DOCUMENT))
        early_BT = np.arange(width) <= cut_B[:, None]  # what begins later is too short
        # within a document, as at the cut, if possible: what begins one would be known to be from elsewhere
        elsewhere_B = pick(rng, sentences_BT & early_BT & ~documents_BT, sentences_BT & early_BT, early_BT)
        second = Piece(
            row=np.where(random_B, other_B, rows_B),
            start=np.where(random_B, elsewhere_B, cut_B),
            length=width - cut_B,
        )
        return Piece(rows_B, np.zeros_like(cut_B), cut_B), second, random_B.astype(np.int64)

    def answer(self, model: Encoder, h_BTD: Tensor) -> Tensor:
        return model.next_sentence(h_BTD)


def _cut(samples: Sample, width: int, rng: np.random.Generator) -> np.ndarray:
    """Where to cut each row's first `width` tokens in two: int64 [B], a place that begins the second piece.

    A sentence of the same document begins there, in the middle half if one does, so that both pieces are worth reading
    and other rows have a sentence that begins early enough to stand for the second; where a row has no sentence, any
    token that begins no document.
    """
    inside_BT = np.arange(width) > 0
    middle_BT = (np.arange(width) >= width // 4) & (np.arange(width) < width - width // 4)
    flags_BT = samples.flags[:, :width]
    within_BT = ((flags_BT & DOCUMENT) == 0) & inside_BT
    anywhere_BT = np.broadcast_to(inside_BT, flags_BT.shape)
    sentences_BT = within_BT & ((flags_BT & SENTENCE) != 0)
    return pick(rng, sentences_BT & middle_BT, sentences_BT, within_BT, anywhere_BT)
