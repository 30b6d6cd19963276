"""Rows of a source and a target: the target is written after the source was read (Sutskever et al. 2014, eq. 1).

loss = - sum_t sum_v q(v | y_t) log p(v | y_1 … y_{t-1}, x)

q is 1 for y_t; smoothed by e it is 1 - e for y_t plus e / V for every v (Szegedy et al. 2016, section 7; Vaswani et al.
2017, section 5.4: e = 0.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from yuwen.config import Config
from yuwen.data.framing import padded, pair_widths
from yuwen.errors import UserError
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives.objective import Batch
from yuwen.objectives.pairs import FRAME, PairsObjective
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.data.buckets import Rows


class Seq2SeqConfig(Config):
    """`label_smoothing` mixes the target with the uniform distribution."""

    name: Literal["seq2seq"] = "seq2seq"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Seq2SeqObjective(PairsObjective):
    """Rows with the fields source and target. What is longer than `data.length` is cut, a target then without its end:
    the model shall not learn to stop there."""

    rows: ClassVar[bool] = True
    name: ClassVar[str] = "seq2seq"

    def __init__(self, config: Seq2SeqConfig, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary, smoothing=config.label_smoothing)
        self.config = config

    def prepare(self, samples: Rows, rng: np.random.Generator) -> Batch:
        if not {"source", "target"} <= set(samples.fields):
            raise UserError(
                "objective.name=seq2seq learns from a source and a target: name both columns in data.fields"
            )
        most = samples.length
        before = [] if self.before is None else [self.before]
        read = [np.array([*before, *ids[: most - FRAME], self.after], np.int64) for ids in samples.fields["source"]]
        written = [np.append(ids, self.end)[:most] for ids in samples.fields["target"]]
        widths = pair_widths(read, written, most)
        source_BS, keep_BS = padded(read, self.pad, most, widths[0])
        targets_BU, _ = padded(written, IGNORE, most, widths[1])
        return self.tensors(source_BS, keep_BS, targets_BU, tokens=sum(map(len, read + written)))
