"""Span corruption: stretches of text are cut out, and written in order (Raffel et al. 2020, section 3.1.4, figure 2).

    text     Thank you for inviting me to your party last week
    source   Thank you <0> me to your party <1> week end
    target   <0> for inviting <1> last end

15 % of the tokens go, in spans of three on average: N tokens in round(N / 3) spans, every way of dividing them as
likely (the authors' code, `random_spans_noise_mask`; there the first token always stays and the last always goes, here
all gaps between what stays are alike). Source and target together are the text: nothing is lost and nothing is told
twice. Special tokens stay in the source; one inside a span cuts it in two. What then no longer fits into the batch's
fixed shape, a few tokens at the end of a window that holds special tokens, is left out of source and target alike, so
that a source has no padding (of one-line documents in windows of 128, 1.4 in a hundred).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.config import Config
from yuwen.errors import UserError
from yuwen.objectives.noise import between, composition, place, refuse_crowded
from yuwen.objectives.objective import Batch
from yuwen.objectives.pairs import FRAME, PairsObjective
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.data import Sample


class SpanConfig(Config):
    """`rate` of the tokens are cut out, in spans of `mean_span` on average."""

    name: Literal["span"] = "span"
    rate: float = Field(default=0.15, gt=0, lt=1)
    mean_span: float = Field(default=3.0, ge=1)

    @model_validator(mode="after")
    def _room_between(self) -> Self:
        refuse_crowded("rate", self.rate, self.mean_span)
        return self


class SpanObjective(PairsObjective):
    """T5's objective over packed windows: of T ids of a window T - 2 are read."""

    name: ClassVar[str] = "span"

    def __init__(self, config: SpanConfig, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self.config = config
        self.sentinels = np.array(vocabulary.sentinels, np.int64)

    def prepare(self, samples: Sample, rng: np.random.Generator) -> Batch:
        B, T = samples.ids.shape[0], samples.ids.shape[1] - 1
        text_BT = samples.ids[:, : T - FRAME]
        widths, most = self._widths(text_BT.shape[1]), len(self.sentinels)
        ordinary_BT = self.vocabulary.is_ordinary[text_BT]
        noise_B, spans_B = self._amounts(ordinary_BT.sum(1))
        spans = place(rng, ordinary_BT, composition(rng, noise_B, spans_B), spans_B)

        numbers_BX = np.cumsum(spans.marks, axis=1) - 1
        joined = between(self.sentinels[np.clip(numbers_BX, 0, most - 1)], text_BT)
        in_source, in_target = between(spans.marks, ~spans.taken), between(spans.marks, spans.taken)
        frame = 1 + (self.before is not None)
        fits = (
            (np.cumsum(in_source, axis=1) <= widths[0] - frame)
            & (np.cumsum(in_target, axis=1) <= widths[1] - 1)
            & (np.repeat(numbers_BX, 2, axis=1)[:, :-1] < most)
        )
        return self.batch((joined, in_source & fits), (joined, in_target & fits), widths, tokens=B * T)

    def _amounts(self, tokens_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(tokens to cut out, in how many spans) of so many tokens."""
        rounded_B = np.rint(self.config.rate * tokens_B).astype(np.int64)
        noise_B = np.minimum(np.maximum(rounded_B, 1), tokens_B)
        spans_B = np.maximum(np.rint(noise_B / self.config.mean_span).astype(np.int64), 1)
        return noise_B, np.minimum(spans_B, np.minimum(noise_B, tokens_B - noise_B + 1))

    def _widths(self, tokens: int) -> tuple[int, int]:
        """Of source and target: what a window without special tokens needs, and room for spans that are cut in two;
        neither is wider than the window, for a model may count no further."""
        (noise,), (spans,) = self._amounts(np.array([tokens]))
        if spans > len(self.sentinels):
            raise UserError(
                f"objective.name=span cuts {spans} spans out of a window and the tokenizer has {len(self.sentinels)}"
                " sentinels (<extra_id_0> …): train one with as many in tokenizer.specials, take one that has them with"
                " tokenizer.from, or lower data.length or objective.rate"
            )
        frame = 1 + (self.before is not None)
        return int(tokens - noise + spans + frame), min(int(noise + spans + 1 + spans // 4 + 1), tokens + FRAME)
