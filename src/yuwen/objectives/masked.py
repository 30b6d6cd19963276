"""Masked words: some tokens are hidden, and each is told from both sides (Devlin et al. 2019, section 3.1, task 1).

loss = - sum_{t chosen} log p(x_t | x with the chosen hidden)

15 % of the tokens are chosen; of those 80 % become [MASK], 10 % a random token, 10 % stay (their appendix A.1), so that
a model never knows which tokens it can trust. A window reads [CLS] x … [SEP].
- Dynamic masking chooses anew whenever a window comes by (Liu et al. 2019, section 4.1); static masking lets the text
  itself decide, so that the same window has the same mask in every epoch.
- Whole words: if one token of a word is hidden, all are (Devlin et al.'s code, 2019; for Chinese Cui et al. 2019,
  section 3.1). Words are those that the prepared data marks: by the tokenizer's pieces, or with `data.words: jieba` by
  a segmenter.
- N-grams: up to `ngrams` neighbours are hidden together (Joshi et al. 2020), p(n) ~ 1/n (Lan et al. 2020, section 4.1).

Special tokens are never hidden, never asked for, and never drawn as random tokens (in Devlin et al.'s code they are).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from yuwen.config import Config
from yuwen.data.shards import WORD
from yuwen.data.windows import mix
from yuwen.nn import LinearCrossEntropy
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives.noise import framed, packed
from yuwen.objectives.objective import Batch, Term
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models import Encoder
    from yuwen.models.config import Reads

_CONTEXT = (1, 2, 4)  # reaches whose sum and the token itself are the 8 tokens that static masking decides by
_SALT = np.uint64(0xD1B54A32D192ED03)


class MaskingConfig(Config):
    """`rate` of the tokens are chosen; of these `masked` become [MASK], `random` a random token, the others stay.

    `static` masks the same window alike in every epoch; `whole_words` and `ngrams` choose neighbours together.
    """

    rate: float = Field(default=0.15, gt=0, lt=1)
    masked: float = Field(default=0.8, ge=0, le=1)
    random: float = Field(default=0.1, ge=0, le=1)
    static: bool = False
    whole_words: bool = False
    ngrams: int = Field(default=1, ge=1, le=16)

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.masked + self.random > 1:
            raise ValueError(f"masked={self.masked} and random={self.random} are shares of the chosen: at most 1")
        return self


class MaskedConfig(MaskingConfig):
    """Masked words alone, as RoBERTa learns."""

    name: Literal["masked"] = "masked"


class Masked(NamedTuple):
    """What masking makes of ids [B, T]: the ids to read, and `places` [B, P] of the chosen with what stood there,
    `targets` [B, P] (IGNORE where a row has fewer than P)."""

    ids: np.ndarray
    places: np.ndarray
    targets: np.ndarray


class Masking:
    """Chooses tokens and hides them. P, the most that a row of T tokens can have, is the same for every batch."""

    def __init__(self, config: MaskingConfig, vocabulary: Vocabulary, objective: str) -> None:
        self.config, self.vocabulary = config, vocabulary
        self.mask = vocabulary.need("mask", objective)
        shares = 1 / np.arange(1, config.ngrams + 1)
        self._ngrams = np.cumsum(shares / shares.sum())

    def __call__(self, ids_BT: np.ndarray, words_BT: np.ndarray, rng: np.random.Generator) -> Masked:
        """`words` is true where a word begins; only whole-word masking asks."""
        draws_BT = _from_text(ids_BT, 4) if self.config.static else rng.random((4, *ids_BT.shape))
        ordinary_BT = self.vocabulary.is_ordinary[ids_BT]
        units_BT = self._units(ordinary_BT, words_BT, draws_BT[0])
        chosen_BT = _fill(units_BT, ordinary_BT, self._budget(ordinary_BT.sum(1)), draws_BT[1])

        fate_BT = np.where(chosen_BT, draws_BT[2], 1.0)
        ordinary_ids = self.vocabulary.ordinary
        random_BT = ordinary_ids[(draws_BT[3] * len(ordinary_ids)).astype(np.int64)]
        hidden_BT = np.where(fate_BT < self.config.masked + self.config.random, random_BT, ids_BT)
        hidden_BT = np.where(fate_BT < self.config.masked, self.mask, hidden_BT)

        T = ids_BT.shape[1]
        width = int(self._budget(np.array([T]))[0])
        places_BP = packed(np.broadcast_to(np.arange(T), ids_BT.shape), chosen_BT, width, 0)
        return Masked(hidden_BT, places_BP, packed(ids_BT, chosen_BT, width, IGNORE))

    def _budget(self, tokens_B: np.ndarray) -> np.ndarray:
        """How many of so many tokens may be chosen: at least one, where there is one. A whole word longer than that is
        never chosen, as in Devlin et al.'s code."""
        rounded_B = np.rint(self.config.rate * tokens_B).astype(np.int64)
        return np.minimum(np.maximum(rounded_B, 1), tokens_B)

    def _units(self, ordinary_BT: np.ndarray, words_BT: np.ndarray, draws_BT: np.ndarray) -> np.ndarray:
        """Number of the unit each token belongs to, int64 [B, T]: tokens of a unit are chosen together."""
        # a special token stands alone, and what follows it begins anew
        alone_BT = ~ordinary_BT
        alone_BT[:, 1:] |= alone_BT[:, :-1].copy()
        starts_BT = alone_BT | words_BT if self.config.whole_words else np.ones_like(alone_BT)
        starts_BT[:, 0] = True
        if self.config.ngrams > 1:
            lengths_BT = 1 + np.searchsorted(self._ngrams, draws_BT)
            first_BX = np.zeros((len(starts_BT), starts_BT.shape[1] + self.config.ngrams), bool)
            np.put_along_axis(first_BX, np.minimum(np.cumsum(lengths_BT, 1), first_BX.shape[1] - 1), True, axis=1)
            first_BX[:, 0] = True
            words_BT = np.cumsum(starts_BT, axis=1) - 1
            starts_BT = starts_BT & (np.take_along_axis(first_BX, words_BT, axis=1) | alone_BT)
        return np.cumsum(starts_BT, axis=1) - 1


def _fill(units_BT: np.ndarray, ordinary_BT: np.ndarray, budget_B: np.ndarray, draws_BT: np.ndarray) -> np.ndarray:
    """Bool [B, T]: units in a random order are chosen as long as they fit into what is left of each row's budget."""
    B, T = units_BT.shape
    flat_BT = units_BT + T * np.arange(B)[:, None]
    sizes_BU = np.bincount(flat_BT.ravel(), ordinary_BT.ravel(), minlength=B * T).reshape(B, T).astype(np.int64)
    keys_BU = np.full((B, T), 2.0)
    np.put_along_axis(keys_BU, units_BT, draws_BT, axis=1)  # a unit's key is the draw of its last token
    order_BU = np.argsort(keys_BU, axis=1)
    sizes_BU = np.take_along_axis(sizes_BU, order_BU, axis=1)
    fits_BU = np.cumsum(sizes_BU, axis=1) <= budget_B[:, None]
    taken_BU = fits_BU & (sizes_BU > 0)
    left_B = budget_B - (sizes_BU * taken_BU).sum(1)
    rows = np.arange(B)
    while (small_BU := (sizes_BU > 0) & ~taken_BU & (sizes_BU <= left_B[:, None])).any():
        first_B = small_BU.argmax(1)  # of every row the next one in order that still fits
        found_B = small_BU[rows, first_B]
        taken_BU[rows, first_B] |= found_B
        left_B = left_B - np.where(found_B, sizes_BU[rows, first_B], 0)
    chosen_BU = np.zeros((B, T), bool)
    np.put_along_axis(chosen_BU, order_BU, taken_BU, axis=1)
    return np.take_along_axis(chosen_BU, units_BT, axis=1) & ordinary_BT


def _from_text(ids_BT: np.ndarray, draws: int) -> np.ndarray:
    """Uniform numbers in [0, 1), [draws, B, T], that depend on nothing but each token and the seven before it."""
    hashed_BT = mix(ids_BT.astype(np.uint64))
    for reach in _CONTEXT:
        earlier_BT = np.zeros_like(hashed_BT)
        earlier_BT[:, reach:] = hashed_BT[:, :-reach]
        hashed_BT = mix(hashed_BT ^ mix(earlier_BT ^ _SALT))
    numbers = np.stack([mix(hashed_BT ^ mix(np.uint64(draw) + hashed_BT)) for draw in range(draws)])
    return (numbers >> np.uint64(11)) * 2.0**-53


class MaskedObjective:
    """Hidden words of packed windows: ids [B, T+1] give rows [CLS] and T - 2 tokens [SEP]."""

    reads: ClassVar[frozenset[Reads]] = frozenset({"both"})
    rows: ClassVar[bool] = False
    together: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    least: ClassVar[int] = 3  # [CLS] a [SEP]

    def __init__(self, config: MaskedConfig, vocabulary: Vocabulary) -> None:
        self.config, self.vocabulary = config, vocabulary
        self.masking = Masking(config, vocabulary, config.name)
        self.cross_entropy = LinearCrossEntropy()

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        first, last = self.vocabulary.cls, self.vocabulary.sep
        T = samples.ids.shape[1] - 1
        room = T - (first is not None) - (last is not None)
        ids_BT = framed(first, samples.ids[:, :room], last)
        words_BT = np.zeros(ids_BT.shape, bool)
        words_BT[:, T - room - (last is not None) :][:, :room] = (samples.flags[:, :room] & WORD) != 0
        masked = self.masking(ids_BT, words_BT, rng)
        counted = int((masked.targets != IGNORE).sum())
        return Batch(tensors(masked), {"masked": counted}, tokens=ids_BT.size)

    def loss(self, model: Encoder, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        h_BTD = model(batch.tensors["ids"])
        return {"masked": Term(self.words(model, h_BTD, batch), batch.counts["masked"])}

    def words(self, model: Encoder, h_BTD: Tensor, batch: Batch) -> Tensor:
        """Summed cross-entropy of the chosen tokens; the head sees no other position."""
        return told(self.cross_entropy, model, at(h_BTD, batch.tensors["places"]), batch.tensors["targets"])

    def modules(self) -> list[nn.Module]:
        return [self.cross_entropy]


def tensors(masked: Masked) -> dict[str, Tensor]:
    """As a batch holds them."""
    return {name: torch.from_numpy(array) for name, array in masked._asdict().items()}


def at(h_BTD: Tensor, places_BP: Tensor) -> Tensor:
    """The states at some places of each row, [B, P, D]."""
    return h_BTD.gather(1, places_BP[..., None].expand(-1, -1, h_BTD.shape[-1]))


def told(cross_entropy: LinearCrossEntropy, model: Any, h_BPD: Tensor, targets_BP: Tensor) -> Tensor:
    """Summed cross-entropy, in nats, of what a model's head tells from hidden states; IGNORE is not counted."""
    read_ND = model.readout(h_BPD).flatten(0, 1)
    summed: Tensor = cross_entropy(read_ND, model.head.weight, model.head.bias, targets_BP.flatten())
    return summed
