"""Permuted order: a token is told from any others, because they come in any order (Yang et al. 2019, eq. 3 and 5).

loss = - E_z sum_{t > c} log p(x_{z_t} | x_{z_1} … x_{z_{t-1}})

z is an order of the positions; only its last part, 1 / `one_in` of them, is told ("partial prediction", section 2.3).
What is told comes in spans: of each `one_in` x L tokens, L drawn from 1 … `longest`, one span of L at a random place
(appendix A.5 of the paper's second version). As in the authors' code what is not told is known to all from the start,
and the told come one by one in a random order. A window reads x … [SEP] [CLS], the frame at its end, as published;
special tokens are known, never told.

The model keeps two streams: `predict(ids, order, places)` gives what each place can say without seeing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from yuwen.config import Config
from yuwen.nn import LinearCrossEntropy
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives import carry
from yuwen.objectives.masked import told
from yuwen.objectives.noise import choose, packed
from yuwen.objectives.objective import Batch, Term
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.models.config import Reads


class PermutedConfig(Config):
    """One of `one_in` tokens is told, in spans of up to `longest`."""

    name: Literal["permuted"] = "permuted"
    one_in: int = Field(default=6, ge=2, le=16_777_216)
    longest: int = Field(default=5, ge=1, le=64)


class PermutedObjective:
    """Packed windows in a random order.

    Where windows read on (`data.Streams`), the model remembers what came before (Dai et al. 2019; section 2.4), and no
    frame stands between them.
    """

    reads: ClassVar[frozenset[Reads]] = frozenset({"permuted"})
    rows: ClassVar[bool] = False
    together: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    least: ClassVar[int] = 3  # a [SEP] [CLS]

    def __init__(self, config: PermutedConfig, vocabulary: Vocabulary) -> None:
        self.config, self.vocabulary = config, vocabulary
        self.cross_entropy = LinearCrossEntropy()

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        B, T = samples.ids.shape[0], samples.ids.shape[1] - 1
        stream = carry.streamed(samples)
        frame = [id for id in (self.vocabulary.sep, self.vocabulary.cls) if id is not None and not stream]
        ids_BT = samples.ids[:, :T].copy()
        ids_BT[:, T - len(frame) :] = frame
        told_BT = self._told(self.vocabulary.is_ordinary[ids_BT], rng)

        ranks_BT = np.argsort(np.argsort(np.where(told_BT, rng.random((B, T)), 2.0), axis=1), axis=1)
        order_BT = np.where(told_BT, 1 + ranks_BT, 0)
        width = max(1, T // self.config.one_in)
        targets_BP = packed(ids_BT, told_BT, width, IGNORE)
        arrays = {
            "ids": ids_BT,
            "order": order_BT,
            "places": packed(np.broadcast_to(np.arange(T), (B, T)), told_BT, width, 0),
            "targets": targets_BP,
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()} | stream
        return Batch(tensors, {"permuted": int((targets_BP != IGNORE).sum())}, tokens=ids_BT.size)

    def loss(self, model: Any, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        held, memory = batch.tensors, None
        if "stream" in held:
            memory = model.new_memory()
            carry.take(state, batch, memory)
        g_BPD = model.predict(held["ids"], held["order"], held["places"], memory=memory)
        if memory is not None:
            carry.keep(state, batch, memory)
        summed = told(self.cross_entropy, model, g_BPD, held["targets"])
        return {"permuted": Term(summed, batch.counts["permuted"])}

    def modules(self) -> list[nn.Module]:
        return [self.cross_entropy]

    def _told(self, ordinary_BT: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Bool [B, T]: which tokens are told. The ordinary tokens of a row are cut into stretches of one_in x L, and of
        each a span of L is told; of a last, shorter stretch as many as are its share. A row too short for any share
        tells one."""
        (B, T), one_in = ordinary_BT.shape, self.config.one_in
        tokens_B1 = ordinary_BT.sum(1, keepdims=True)
        most = -(-T // one_in)
        lengths_BS = rng.integers(1, self.config.longest + 1, (B, most))
        ends_BS = np.cumsum(one_in * lengths_BS, axis=1)
        starts_BS = ends_BS - one_in * lengths_BS
        stretch_BS = np.clip(tokens_B1 - starts_BS, 0, one_in * lengths_BS)
        lengths_BS = stretch_BS // one_in
        first_BS = starts_BS + (rng.random((B, most)) * (stretch_BS - lengths_BS + 1)).astype(np.int64)
        # +1 where a span begins, -1 behind its end: the running sum is 1 within spans
        steps_BX = np.zeros((B, T + 1), np.int64)
        rows, spans = np.nonzero(lengths_BS)
        np.add.at(steps_BX, (rows, first_BS[rows, spans]), 1)
        np.add.at(steps_BX, (rows, (first_BS + lengths_BS)[rows, spans]), -1)
        inside_BX = np.cumsum(steps_BX, axis=1) > 0
        number_BT = np.cumsum(ordinary_BT, axis=1) - 1
        told_BT = np.take_along_axis(inside_BX, np.maximum(number_BT, 0), axis=1) & ordinary_BT
        silent_B = ordinary_BT.any(1) & ~told_BT.any(1)
        return told_BT | choose(rng, ordinary_BT, silent_B.astype(np.int64)) if silent_B.any() else told_BT
