"""One text read, another written: what all objectives of encoder–decoders share (Sutskever et al. 2014, eq. 1).

loss = - sum_t log p(y_t | y_1 … y_{t-1}, x)

    source x   [CLS] … [SEP]    as far as the tokenizer has such tokens; else … end
    target y   … end            the decoder reads it one further to the right, behind the model's own opening
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from yuwen.nn import LinearCrossEntropy, Padding
from yuwen.nn.cross_entropy import IGNORE
from yuwen.objectives.masked import told
from yuwen.objectives.noise import framed, packed
from yuwen.objectives.objective import Batch, Term
from yuwen.objectives.vocabulary import Vocabulary

if TYPE_CHECKING:
    from yuwen.models import EncoderDecoder
    from yuwen.models.config import Reads

FRAME = 2  # ids of a window that make room for a source's frame


class PairsObjective:
    """Base of those objectives: a batch holds "source" [B, S], "keep" [B, S] (where a token stands) and "targets"."""

    reads: ClassVar[frozenset[Reads]] = frozenset({"pairs"})
    rows: ClassVar[bool] = False
    together: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    least: ClassVar[int] = FRAME + 1
    name: ClassVar[str]

    def __init__(self, vocabulary: Vocabulary, smoothing: float = 0.0) -> None:
        self.vocabulary = vocabulary
        self.end = vocabulary.need("end", self.name)
        self.before, self.after = vocabulary.cls, self.end if vocabulary.sep is None else vocabulary.sep
        self.pad = self.end if vocabulary.pad is None else vocabulary.pad
        self.cross_entropy = LinearCrossEntropy(smoothing=smoothing)

    def batch(
        self,
        source: tuple[np.ndarray, np.ndarray],
        target: tuple[np.ndarray, np.ndarray],
        widths: tuple[int, int],
        tokens: int,
    ) -> Batch:
        """The batch of ids [B, ·] and which of them to keep, for the text of source and target; `widths` of both, frame
        and end included."""
        frame = (None if self.before is None else 1, 1)
        ids_BS = framed(self.before, source[0], self.after)
        keep_BS = framed(frame[0], source[1].astype(np.int64), frame[1]) > 0
        ids_BU = framed(None, target[0], self.end)
        keep_BU = framed(None, target[1].astype(np.int64), 1) > 0
        lengths_B = keep_BS.sum(1)
        return self.tensors(
            packed(ids_BS, keep_BS, widths[0], self.pad),
            np.arange(widths[0]) < lengths_B[:, None],
            packed(ids_BU, keep_BU, widths[1], IGNORE),
            tokens,
        )

    def tensors(self, source_BS: np.ndarray, keep_BS: np.ndarray, targets_BU: np.ndarray, tokens: int) -> Batch:
        """The batch of finished arrays."""
        arrays = {"source": source_BS, "keep": keep_BS, "targets": targets_BU}
        counts = {self.name: int((targets_BU != IGNORE).sum())}
        return Batch({name: torch.from_numpy(array) for name, array in arrays.items()}, counts, tokens)

    def loss(self, model: EncoderDecoder, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]:
        held = batch.tensors
        # windows mostly fill their width; rows do not, and a compiled block shall meet them with one kind of mask
        mask = None if not self.rows and bool(held["keep"].all()) else Padding(held["keep"])
        memory_BSD = model.encode(held["source"], mask)
        inputs_BT = shifted(held["targets"], model.opening)
        h_BTD = model.decode(inputs_BT, memory_BSD, memory_mask=mask)
        h_BUD = h_BTD[:, len(model.opening) - 1 :]
        summed = told(self.cross_entropy, model, h_BUD, held["targets"])
        return {self.name: Term(summed, batch.counts[self.name])}

    def modules(self) -> list[nn.Module]:
        return [self.cross_entropy]


def shifted(targets_BU: Tensor, opening: Sequence[int]) -> Tensor:
    """What the decoder reads: the opening, then every target but the last; behind a target's end anything at all."""
    opening_BO = targets_BU.new_tensor(opening).expand(len(targets_BU), -1)
    return torch.cat((opening_BO, targets_BU[:, :-1]), dim=1).clamp(min=0)
