"""What a model remembers from one step to the next: a row for each stream of the data, in the objective's state.

Gradients stop at the border (truncated back-propagation through time, Williams & Peng 1990); the values go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from yuwen.data import Sample
    from yuwen.objectives.objective import Batch

_NAME = "carried."


class Memory(Protocol):
    """A cache that can be laid down and taken up again. Its tensors [B, …] have one shape at every step."""

    def tensors(self) -> dict[str, Tensor]: ...

    def load(self, tensors: Mapping[str, Tensor]) -> None: ...

    def forget(self, rows_B: Tensor) -> None: ...


def streamed(samples: Sample) -> dict[str, Tensor]:
    """What a batch says of the streams it reads on: nothing, where the data does not read on."""
    if samples.stream is None or samples.fresh is None:
        return {}
    return {
        "stream": torch.from_numpy(samples.stream),
        "streams": torch.tensor(samples.streams),
        "fresh": torch.from_numpy(samples.fresh),
    }


def take(state: Mapping[str, Any], batch: Batch, memory: Memory) -> None:
    """Fills an empty memory with what the batch's streams have left behind."""
    stream_B = batch.tensors["stream"]
    held = {name.removeprefix(_NAME): tensor for name, tensor in state.items() if name.startswith(_NAME)}
    if held:
        memory.load({name: tensor[stream_B] for name, tensor in held.items()})
        memory.forget(batch.tensors["fresh"])


def keep(state: dict[str, Any], batch: Batch, memory: Memory) -> None:
    """Leaves behind, without its gradient, what the memory holds now."""
    for name, part in memory.tensors().items():
        if _NAME + name not in state:
            state[_NAME + name] = part.new_zeros((int(batch.tensors["streams"]), *part.shape[1:]))
        state[_NAME + name][batch.tensors["stream"]] = part.detach()
