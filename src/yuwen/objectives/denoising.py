"""Denoising: a damaged text is read, the whole text is written (Lewis et al. 2020, section 2.2, figure 2).

loss = - sum_t log p(x_t | x_1 … x_{t-1}, g(x))

    mask      tokens become [MASK], as in BERT
    delete    tokens go, and the model must find where
    infill    spans become one [MASK] each; lengths are drawn from Poisson(mean_span), a span of none puts one in
    permute   the sentences of a document come in a random order
    rotate    a document begins at a random token, and what stood before it comes last

Every noise can be set alone, and all together; they are applied in the order permute, rotate, delete, mask, infill.
The default is the published choice: infill 0.3 of the tokens and permute (section 5). Documents are those packed into
the window. Special tokens are never masked, deleted or cut out, and the end token of a document stays at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.config import Config
from yuwen.data.shards import DOCUMENT, SENTENCE
from yuwen.objectives.noise import between, choose, packed, place, poisson, refuse_crowded
from yuwen.objectives.objective import Batch
from yuwen.objectives.pairs import FRAME, PairsObjective
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.data import Sample

_NOTHING = -1  # an id that stands for no token


class DenoisingConfig(Config):
    """The noises: `mask`, `delete` and `infill` are shares of the tokens, `permute` and `rotate` are on or off."""

    name: Literal["denoising"] = "denoising"
    mask: float = Field(default=0.0, ge=0, lt=1)
    delete: float = Field(default=0.0, ge=0, lt=1)
    infill: float = Field(default=0.3, ge=0, lt=1)
    mean_span: float = Field(default=3.0, ge=1, le=64)
    permute: bool = True
    rotate: bool = False

    @model_validator(mode="after")
    def _some_noise(self) -> Self:
        if not (self.mask or self.delete or self.infill or self.permute or self.rotate):
            raise ValueError("a text without noise would only be copied: set mask, delete, infill, permute or rotate")
        refuse_crowded("infill", self.infill, self.mean_span)
        return self


class DenoisingObjective(PairsObjective):
    """BART's objective over packed windows: of T ids of a window T - 2 are read."""

    name: ClassVar[str] = "denoising"

    def __init__(self, config: DenoisingConfig, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self.config = config
        self.mask = vocabulary.need("mask", self.name) if config.mask or config.infill else _NOTHING

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        B, T = samples.ids.shape[0], samples.ids.shape[1] - 1
        text_BT, flags_BT = samples.ids[:, : T - FRAME], samples.flags[:, : T - FRAME]
        damaged_BT = self.damaged(text_BT, flags_BT, rng)
        everything = np.ones_like(text_BT)
        return self.batch((damaged_BT, damaged_BT != _NOTHING), (text_BT, everything), (T, T - FRAME + 1), B * T)

    def damaged(self, ids_BT: np.ndarray, flags_BT: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The text with the noise that the settings ask for, int64 [B, T]; -1 stands for no token."""
        config = self.config
        for wanted, reorder in ((config.permute, permuted), (config.rotate, rotated)):
            if wanted:  # a document keeps the places it has, so its first one is marked as before
                ids_BT = np.take_along_axis(ids_BT, reorder(flags_BT, ids_BT == self.end, rng), axis=1)
        if config.delete:
            ids_BT = np.where(self._some(ids_BT, config.delete, rng), _NOTHING, ids_BT)
            # what stays moves together: a hole would show where something went, and cut a span that lies over it
            ids_BT = packed(ids_BT, ids_BT != _NOTHING, ids_BT.shape[1], _NOTHING)
        if config.mask:
            ids_BT = np.where(self._some(ids_BT, config.mask, rng), self.mask, ids_BT)
        return self._infilled(ids_BT, rng) if config.infill else ids_BT

    def _ordinary(self, ids_BT: np.ndarray) -> np.ndarray:
        return (ids_BT != _NOTHING) & self.vocabulary.is_ordinary[ids_BT]

    def _some(self, ids_BT: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
        """Bool [B, T]: a share of each row's ordinary tokens."""
        ordinary_BT = self._ordinary(ids_BT)
        return choose(rng, ordinary_BT, np.rint(rate * ordinary_BT.sum(1)).astype(np.int64))

    def _infilled(self, ids_BT: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        ordinary_BT = self._ordinary(ids_BT)
        tokens_B = ordinary_BT.sum(1)
        noise_B = np.rint(self.config.infill * tokens_B).astype(np.int64)
        # never more spans than tokens, so that the text grows no longer, nor than gaps between the tokens that stay
        most_B = np.minimum(noise_B, tokens_B - noise_B + 1)
        lengths, spans_B = poisson(rng, noise_B, self.config.mean_span, most_B)
        spans = place(rng, ordinary_BT, lengths, spans_B)
        kept_BT = ~spans.taken & (ids_BT != _NOTHING)
        # a special token cuts a span in two: where two marks would make the text longer, the second gives way
        cut_BX = np.zeros_like(spans.marks)
        cut_BX[:, 1:-1] = spans.marks[:, 1:-1] & spans.taken[:, 1:] & ~ordinary_BT[:, :-1]
        longer_B = spans.marks.sum(1) + kept_BT.sum(1) - ids_BT.shape[1]
        marks_BX = spans.marks & ~(cut_BX & (np.cumsum(cut_BX, axis=1) <= longer_B[:, None]))
        joined = between(np.full(marks_BX.shape, self.mask), ids_BT)
        return packed(joined, between(marks_BX, kept_BT), ids_BT.shape[1], _NOTHING)


def permuted(flags_BT: np.ndarray, closing_BT: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order [B, T] in which the sentences of each document stand at random; what closes a document stays behind it."""
    starts_BT = ((flags_BT & (SENTENCE | DOCUMENT)) != 0) | closing_BT
    starts_BT[:, 1:] |= closing_BT[:, :-1]
    draws_BX = rng.random((len(flags_BT), flags_BT.shape[1] + 1))
    of_sentence_BT = np.take_along_axis(draws_BX, np.cumsum(starts_BT, axis=1), axis=1)
    document_BT = np.cumsum((flags_BT & DOCUMENT) != 0, axis=1)
    return np.argsort(document_BT + np.where(closing_BT, 1.0, of_sentence_BT), axis=1, kind="stable")


def rotated(flags_BT: np.ndarray, closing_BT: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order [B, T] in which each document begins at a random token of it; what closes a document stays behind it."""
    B, T = flags_BT.shape
    starts_BT = ((flags_BT & DOCUMENT) != 0) | closing_BT
    starts_BT[:, 1:] |= closing_BT[:, :-1]
    starts_BT[:, 0] = True
    number_BT = np.cumsum(starts_BT, axis=1) - 1
    flat_BT = number_BT + T * np.arange(B)[:, None]
    length_BT = np.bincount(flat_BT.ravel(), minlength=B * T)[flat_BT]
    first_BT = np.maximum.accumulate(np.where(starts_BT, np.arange(T), 0), axis=1)
    turn_BT = (np.take_along_axis(rng.random((B, T)), number_BT, axis=1) * length_BT).astype(np.int64)
    return np.argsort(first_BT + (np.arange(T) - first_BT - turn_BT) % length_BT, axis=1)
