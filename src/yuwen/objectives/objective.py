"""The contract between an objective and the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
from torch import Tensor, nn

if TYPE_CHECKING:
    from yuwen.models.config import Reads


@dataclass(slots=True)
class Batch:
    """What the model sees. `counts` says, before anything is computed, how many targets each loss term has here;
    `tokens` how many positions are read, what frames the text included and padding not."""

    tensors: dict[str, Tensor]
    counts: dict[str, int]
    tokens: int


class Term(NamedTuple):
    """One part of the loss: a sum over targets, still undivided. The loop divides by the global count."""

    sum: Tensor
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks of a loss
    weight: float = 1.0


class Objective(Protocol):
    """Prepares batches and scores them.

    `prepare` is a pure function of its arguments: the same samples and generator state give the same batch, on any
    number of processes. `loss` returns undivided sums, so that accumulation, packing and data parallelism never change
    the result. `state` is what the objective carries from step to step; it is saved with the checkpoint.

    `reads` are the ways of reading whose models it can train. `rows`: its samples are records (`data.Rows`), not
    windows of text (`data.Sample`). `together`: samples of a batch see each other, so that a batch cannot be computed
    in parts (`Together`). `fewest`: how many samples it must have at a time, two where one stands against another.
    `least`: the shortest `data.length` that has room for its frame and something to ask for.
    """

    reads: ClassVar[frozenset[Reads]]
    rows: ClassVar[bool]
    together: ClassVar[bool]
    fewest: ClassVar[int]
    least: ClassVar[int]

    def prepare(self, samples: Any, rng: np.random.Generator) -> Batch: ...

    def loss(self, model: Any, batch: Batch, state: dict[str, Any]) -> Mapping[str, Term]: ...

    def modules(self) -> list[nn.Module]:
        """The objective's own modules, for the loop to compile where it compiles the model's."""
        ...


class Together(Objective, Protocol):
    """One whose samples see each other, those of other processes too.

    The loop sets `gather`: vectors [N, D] -> the vectors of all processes, and where this one's begin.
    """

    gather: Callable[[Tensor], tuple[Tensor, int]]
