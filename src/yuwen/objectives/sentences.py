"""Two pieces of text, one after the other: what next sentence and sentence order share.

    [CLS] first [SEP] second [SEP]        segments 0 … 0 1 … 1

T ids hold T - 3 tokens of text, or fewer and padding behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yuwen.data.shards import WORD
from yuwen.nn import LinearCrossEntropy, Padding
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives.masked import Masking, MaskingConfig, at, tensors, told
from yuwen.objectives.objective import Batch, Term
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import Encoder
    from yuwen.models.config import Reads


class Piece(NamedTuple):
    """A stretch of text for each row [B]: of which row of the batch, from which token on, how many."""

    row: np.ndarray
    start: np.ndarray
    length: np.ndarray


class SentencePairs:
    """Masked words and a question about the two pieces of every row; the subclasses lay the pieces out and ask it."""

    reads: ClassVar[frozenset[Reads]] = frozenset({"both"})
    rows: ClassVar[bool] = False
    together: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    least: ClassVar[int] = 5  # [CLS] a [SEP] b [SEP]
    name: ClassVar[str]
    fills: ClassVar[bool]  # whether the two pieces of every row are as long as the window: then nothing is padded

    def __init__(self, config: MaskingConfig, vocabulary: Vocabulary) -> None:
        self.config, self.vocabulary = config, vocabulary
        self.cls, self.sep = vocabulary.need("cls", self.name), vocabulary.need("sep", self.name)
        self.pad = self.sep if vocabulary.pad is None else vocabulary.pad
        self.masking = Masking(config, vocabulary, self.name)
        self.cross_entropy = LinearCrossEntropy()

    def lay_out(self, samples: Sample, width: int, rng: np.random.Generator) -> tuple[Piece, Piece, np.ndarray]:
        """(first piece, second piece, answer [B]) from the first `width` tokens of each row."""
        raise NotImplementedError

    def answer(self, model: Encoder, h_BTD: Tensor) -> Tensor:
        """The model's scores of the answers, [B, 2]."""
        raise NotImplementedError

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        B, T = samples.ids.shape[0], samples.ids.shape[1] - 1
        first, second, answers_B = self.lay_out(samples, T - 3, rng)
        ids_BT, words_BT, segments_BT, keep_BT = self._written(samples, first, second)
        masked = self.masking(ids_BT, words_BT, rng)
        batch = tensors(masked)
        batch["segments"] = torch.from_numpy(segments_BT)
        if not self.fills:
            batch["keep"] = torch.from_numpy(keep_BT)
        batch["answers"] = torch.from_numpy(answers_B)
        counts = {"masked": int((masked.targets != IGNORE).sum()), self.name: B}
        return Batch(batch, counts, tokens=int(keep_BT.sum()))

    def loss(self, model: Encoder, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        held = batch.tensors
        h_BTD = model(held["ids"], Padding(held["keep"]) if "keep" in held else None, segments_BT=held["segments"])
        words = told(self.cross_entropy, model, at(h_BTD, held["places"]), held["targets"])
        answers = F.cross_entropy(self.answer(model, h_BTD).float(), held["answers"], reduction="sum")
        return {
            "masked": Term(words, batch.counts["masked"]),
            self.name: Term(answers, batch.counts[self.name]),
        }

    def modules(self) -> list[nn.Module]:
        return [self.cross_entropy]

    def _written(self, samples: Sample, first: Piece, second: Piece) -> tuple[np.ndarray, ...]:
        """(ids, where words begin, segments, where no padding stands), [B, T] each."""
        T = samples.ids.shape[1] - 1
        places_T, middle_B1 = np.arange(T), first.length[:, None] + 1
        last_B1 = middle_B1 + second.length[:, None] + 1
        in_second_BT, keep_BT = places_T > middle_B1, places_T <= last_B1
        row_BT = np.where(in_second_BT, second.row[:, None], first.row[:, None])
        column_BT = np.where(
            in_second_BT, second.start[:, None] + places_T - middle_B1 - 1, first.start[:, None] + places_T - 1
        )
        column_BT = np.clip(column_BT, 0, T)  # the frame's own places read anything, and are written over
        ids_BT, flags_BT = np.where(keep_BT, samples.ids[row_BT, column_BT], self.pad), samples.flags[row_BT, column_BT]
        ids_BT[:, 0] = self.cls
        for sep_B1 in (middle_B1, last_B1):
            np.put_along_axis(ids_BT, sep_B1, self.sep, axis=1)
        return ids_BT, (flags_BT & WORD) != 0, (in_second_BT & keep_BT).astype(np.int64), keep_BT
