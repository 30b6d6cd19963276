"""How our weight names map to the published ones, both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Same:
    """One of our tensors is one of theirs."""

    ours: str
    theirs: str

    def to_published(self, weights: Mapping[str, Tensor]) -> Tensor:
        return weights[self.ours]

    def from_published(self, tensor: Tensor) -> dict[str, Tensor]:
        return {self.ours: tensor}


@dataclass(frozen=True)
class Transposed(Same):
    """Theirs has input and output swapped (GPT-2's Conv1D)."""

    def to_published(self, weights: Mapping[str, Tensor]) -> Tensor:
        return weights[self.ours].T.contiguous()

    def from_published(self, tensor: Tensor) -> dict[str, Tensor]:
        return {self.ours: tensor.T.contiguous()}


@dataclass(frozen=True)
class Headed(Same):
    """Theirs keeps the last axis as heads x width of a head (XLNet); `transposed`: after swapping input and output."""

    heads: int
    transposed: bool = False

    def to_published(self, weights: Mapping[str, Tensor]) -> Tensor:
        tensor = weights[self.ours]
        return (tensor.T if self.transposed else tensor).unflatten(-1, (self.heads, -1)).contiguous()

    def from_published(self, tensor: Tensor) -> dict[str, Tensor]:
        tensor = tensor.flatten(-2)
        return {self.ours: (tensor.T if self.transposed else tensor).contiguous()}


@dataclass(frozen=True)
class Row(Same):
    """Theirs is a table of one row: [1, N] for our [N]."""

    def to_published(self, weights: Mapping[str, Tensor]) -> Tensor:
        return weights[self.ours][None]

    def from_published(self, tensor: Tensor) -> dict[str, Tensor]:
        return {self.ours: tensor.flatten()}


@dataclass(frozen=True)
class Repeated(Same):
    """Theirs holds one of ours under a second name, which is written and not read."""

    def to_published(self, weights: Mapping[str, Tensor]) -> Tensor:
        return weights[self.ours].clone()

    def from_published(self, tensor: Tensor) -> dict[str, Tensor]:
        return {}


@dataclass(frozen=True)
class Stacked:
    """Several of ours stand behind each other in one of theirs; `transposed` as above."""

    ours: tuple[str, ...]
    theirs: str
    transposed: bool = False

    def to_published(self, weights: Mapping[str, Tensor]) -> Tensor:
        tensor = torch.cat([weights[name] for name in self.ours])
        return tensor.T.contiguous() if self.transposed else tensor

    def from_published(self, tensor: Tensor) -> dict[str, Tensor]:
        tensor = tensor.T if self.transposed else tensor
        return {n: t.contiguous() for n, t in zip(self.ours, tensor.chunk(len(self.ours)), strict=True)}


Entry = Same | Stacked


def both(ours: str, theirs: str) -> list[Entry]:
    """Weight and bias of a linear map or a norm."""
    return [Same(f"{ours}.{kind}", f"{theirs}.{kind}") for kind in ("weight", "bias")]


def current_name(name: str) -> str:
    """A published name as it is written today: the first files kept TensorFlow's gamma and beta for a LayerNorm."""
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def per_layer(layers: int, entries: Sequence[Entry]) -> Iterator[Entry]:
    """The entries once for each layer, with {n} replaced by its number."""
    for n in range(layers):
        for entry in entries:
            theirs = entry.theirs.format(n=n)
            if isinstance(entry, Stacked):
                yield replace(entry, ours=tuple(ours.format(n=n) for ours in entry.ours), theirs=theirs)
            else:
                yield replace(entry, ours=entry.ours.format(n=n), theirs=theirs)


def to_published(entries: Sequence[Entry], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of our weights under the published names."""
    return {entry.theirs: entry.to_published(weights) for entry in entries}


def from_published(
    entries: Sequence[Entry], published: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """(our weights, published names that are missing, published names nobody used)."""
    ours: dict[str, Tensor] = {}
    missing = []
    for entry in entries:
        if entry.theirs in published:
            ours.update(entry.from_published(published[entry.theirs]))
        else:
            missing.append(entry.theirs)
    used = {entry.theirs for entry in entries}
    return ours, missing, sorted(set(published) - used)
