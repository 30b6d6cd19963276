"""Masked words and sentence order: which of two neighbouring pieces came first? (Lan et al. 2020, section 3.1)

loss = masked words - sum_b log p(swapped_b | pooled [CLS])

Both pieces are neighbours of one document, so their topic tells nothing; half of the time they are swapped (answer 1).
Both are whole sentences: of a piece that a window's border breaks off one could see without reading which end of the
text it is. Words are hidden in n-grams of up to three whole words, p(n) ~ 1/n (section 4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from yuwen.data.shards import DOCUMENT, SENTENCE
from yuwen.objectives.masked import MaskingConfig
from yuwen.objectives.noise import pick
from yuwen.objectives.sentences import Piece, SentencePairs

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import Encoder


class SentenceOrderConfig(MaskingConfig):
    """How words are masked beside it."""

    name: Literal["sentence_order"] = "sentence_order"
    whole_words: bool = True
    ngrams: int = Field(default=3, ge=1, le=16)


class SentenceOrderObjective(SentencePairs):
    """ALBERT's two tasks at once."""

    name: ClassVar[str] = "sentence_order"
    fills: ClassVar[bool] = False

    def lay_out(self, samples: Sample, width: int, rng: np.random.Generator) -> tuple[Piece, Piece, np.ndarray]:
        rows_B = np.arange(len(samples.ids))
        start_B, cut_B, stop_B = self._places(samples, width, rng)
        before = Piece(rows_B, start_B, cut_B - start_B)
        after = Piece(rows_B, cut_B, stop_B - cut_B)
        swapped_B = rng.random(len(rows_B)) < 0.5
        first, second = (
            Piece(rows_B, *(np.where(swapped_B, theirs, ours) for ours, theirs in zip(one[1:], other[1:], strict=True)))
            for one, other in ((before, after), (after, before))
        )
        return first, second, swapped_B.astype(np.int64)

    def answer(self, model: Encoder, h_BTD: Tensor) -> Tensor:
        return model.sentence_order(h_BTD)

    def _places(self, samples: Sample, width: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Where the first piece begins, the second begins and the second ends, int64 [B] each.

        The first and last sentence's beginning that a window has of one document, of several that with most, and the
        beginning between them of the sentence in which a random token lies, as a window's border lies in a random one:
        so all three are alike. None is beside a document's end token, and lines that are joined are one document. In a
        window without two whole sentences any token counts as a sentence's beginning.
        """
        ids_BX, flags_BX = samples.ids[:, : width + 1], samples.flags[:, : width + 1]
        closes_BX = ids_BX == (-1 if self.vocabulary.end is None else self.vocabulary.end)
        opens_BX = (flags_BX & DOCUMENT) != 0
        opens_BX[:, 1:] &= closes_BX[:, :-1]
        begins_BX = ((flags_BX & SENTENCE) != 0) & ~opens_BX & ~closes_BX

        (B, X), document_BX = begins_BX.shape, np.cumsum(opens_BX, axis=1)
        flat_BX = document_BX + (X + 1) * np.arange(B)[:, None]
        found_BN = np.bincount(flat_BX.ravel(), begins_BX.ravel(), minlength=B * (X + 1)).reshape(B, X + 1)
        begins_BX &= document_BX == found_BN.argmax(1)[:, None]
        begins_BX |= found_BN.max(1)[:, None] < 3  # two sentences: three places

        places_X = np.arange(X)
        start_B, stop_B = begins_BX.argmax(1), X - 1 - begins_BX[:, ::-1].argmax(1)
        token_B = pick(rng, (np.cumsum(begins_BX, axis=1) > 1) & (places_X < stop_B[:, None]))
        cut_B = np.where(begins_BX & (places_X <= token_B[:, None]), places_X, 0).max(1)
        return start_B, cut_B, stop_B
