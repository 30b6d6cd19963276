"""Masked words and next sentence: does the second piece follow the first? (Devlin et al. 2019, section 3.1, tasks 1, 2)

loss = masked words - sum_b log p(follows_b | pooled [CLS])

Half of the time the second piece is what follows (answer 0), half of the time it comes from another row of the batch,
that is from elsewhere in the corpus (answer 1): as long, and from a sentence's beginning if what follows begins one.
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


_BEGINS, _WITHIN, _EDGE = 0, 1, 2  # a token begins a sentence of a document that goes on, stands within one, or neither
_TRIES = 8  # to find another window with such a place as the cut


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
        kinds_BT = self._kinds(samples, width)
        cut_B = _cut(kinds_BT, rng)
        # what begins as the cut does, or its first token would tell that it is from elsewhere, and early enough to be
        # as long: another window that has such a place is looked for a few times, and else the row keeps what follows
        early_BT, kind_B1 = np.arange(width) <= cut_B[:, None], kinds_BT[rows_B, cut_B][:, None]
        other_B = _other(rng, rows_B)
        alike_BT = (kinds_BT[other_B] == kind_B1) & early_BT
        for _ in range(_TRIES):
            other_B = np.where(alike_BT.any(1), other_B, _other(rng, rows_B))
            alike_BT = (kinds_BT[other_B] == kind_B1) & early_BT
        random_B = (rng.random(B) < 0.5) & alike_BT.any(1)
        elsewhere_B = pick(rng, alike_BT, early_BT)
        second = Piece(
            row=np.where(random_B, other_B, rows_B),
            start=np.where(random_B, elsewhere_B, cut_B),
            length=width - cut_B,
        )
        return Piece(rows_B, np.zeros_like(cut_B), cut_B), second, random_B.astype(np.int64)

    def answer(self, model: Encoder, h_BTD: Tensor) -> Tensor:
        return model.next_sentence(h_BTD)

    def _kinds(self, samples: Sample, width: int) -> np.ndarray:
        """What each of the first `width` tokens is: int8 [B, T]. What begins a document or ends it does neither."""
        ids_BT, flags_BT = samples.ids[:, :width], samples.flags[:, :width]
        edge_BT = (flags_BT & DOCUMENT) != 0
        if self.vocabulary.end is not None:
            edge_BT |= ids_BT == self.vocabulary.end
        within_BT = np.where((flags_BT & SENTENCE) != 0, _BEGINS, _WITHIN)
        return np.where(edge_BT, _EDGE, within_BT).astype(np.int8)


def _other(rng: np.random.Generator, rows_B: np.ndarray) -> np.ndarray:
    """Another row for each."""
    return (rows_B + rng.integers(1, len(rows_B), size=len(rows_B))) % len(rows_B)


def _cut(kinds_BT: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where to cut each row in two: int64 [B], a place that begins the second piece.

    A sentence of the same document begins there, in the middle half if one does, so that both pieces are worth reading
    and other rows have a sentence that begins early enough to stand for the second; where a row has no sentence, any
    token within one.
    """
    width = kinds_BT.shape[1]
    places_T = np.arange(width)
    inside_BT = np.broadcast_to(places_T > 0, kinds_BT.shape)
    middle_BT = (places_T >= width // 4) & (places_T < width - width // 4)
    sentences_BT = inside_BT & (kinds_BT == _BEGINS)
    return pick(rng, sentences_BT & middle_BT, sentences_BT, inside_BT & (kinds_BT == _WITHIN), inside_BT)
