"""A token stream → its distinct n-grams with their counts, in sorted order, in memory that the text does not bound.

An n-gram is one integer. Its ids, each plus one, are the digits of a number in base B = V + 1; the digit 0 says that
the text has ended:

    key = d_1 B^(n-1) + d_2 B^(n-2) + … + d_n,    d_i = id + 1, or 0 after the end of the text

so sorting the keys sorts the n-grams, and the k-grams for every k < n are the keys' leading digits: one sort counts all
orders. Where B^n does not fit into 63 bits the number is built in stages, and the first digits of a later stage are the
rank of a shorter gram among the sorted keys of the stage before, which is less than the number of tokens.

Keys are sorted in blocks, each block's distinct keys and counts become a run, and the runs are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yuwen.training.counting.columns import Column, Workspace

_LARGEST = 2**63 - 1


@dataclass
class Run:
    """Sorted distinct keys, int64, and how often each occurs, int64."""

    keys: Column
    counts: Column

    @classmethod
    def new(cls, workspace: Workspace) -> Run:
        return cls(workspace.column(np.int64), workspace.column(np.int64))

    def append(self, keys: np.ndarray, counts: np.ndarray) -> None:
        self.keys.append(keys)
        self.counts.append(counts)

    def close(self, *, remove: bool = False) -> None:
        self.keys.close(remove=remove)
        self.counts.close(remove=remove)


@dataclass
class Stage:
    """The counted grams of `first + digits` ids: the rank of a gram of `first` ids, then `digits` digits in `base`."""

    first: int
    digits: int
    base: int
    below: Stage | None
    run: Run

    @property
    def order(self) -> int:
        return self.first + self.digits

    def keys(self, tokens: Column, start: int, stop: int) -> np.ndarray:
        """The key of the gram that begins at each token from `start` up to `stop`."""
        digits = _digits(tokens, start + self.first, stop + self.first, self.digits)
        if self.below is None:
            key = np.zeros(stop - start, np.int64)
        else:
            key = places_in(self.below.run.keys.array(), self.below.keys(tokens, start, stop))
        for n in range(self.digits):
            key *= self.base
            key += digits[n : n + len(key)]
        return key


def count_grams(tokens: Column, order: int, vocabulary: int, workspace: Workspace) -> list[Stage]:
    """Counts the grams of `order` ids that begin at every token; the stages lead up to them."""
    base = vocabulary + 1
    stages: list[Stage] = []
    while not stages or stages[-1].order < order:
        below = stages[-1] if stages else None
        first, ranks = (below.order, len(below.run.keys)) if below is not None else (0, 1)
        digits = 1
        while first + digits < order and ranks * base ** (digits + 1) <= _LARGEST:
            digits += 1
        if ranks * base**digits > _LARGEST:
            raise ValueError(f"{ranks} grams of {first} ids in a vocabulary of {vocabulary} are too many to number")
        stage = Stage(first, digits, base, below, Run.new(workspace))
        _count(stage, tokens, workspace)
        stages.append(stage)
    return stages


def runs_of(keys: np.ndarray) -> np.ndarray:
    """Where each run of equal elements begins in a sorted array."""
    new = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    return np.flatnonzero(new)


def places_in(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Where keys, in any order, stand in a sorted table. Sought in order they are found several times faster."""
    order = np.argsort(keys)
    places = np.empty(len(keys), np.int64)
    places[order] = np.searchsorted(table, keys[order])
    return places


def _digits(tokens: Column, start: int, stop: int, digits: int) -> np.ndarray:
    """Ids plus one from `start` on, as many as grams of `digits` ids need that begin before `stop`."""
    found = tokens.read(min(start, len(tokens)), stop + digits - 1)
    padded = np.zeros(stop - start + digits - 1, np.int64)
    padded[: len(found)] = found
    padded[: len(found)] += 1
    return padded


def _count(stage: Stage, tokens: Column, workspace: Workspace) -> None:
    blocks = [(start, min(start + workspace.block, len(tokens))) for start in range(0, len(tokens), workspace.block)]
    if len(blocks) == 1:
        stage.run.append(*_counted(stage.keys(tokens, *blocks[0])))
    else:
        sorted_runs = []
        for start, stop in blocks:
            sorted_runs.append(Run.new(workspace))
            sorted_runs[-1].append(*_counted(stage.keys(tokens, start, stop)))
            sorted_runs[-1].close()
        merge(sorted_runs, stage.run, workspace.block)
        for run in sorted_runs:
            run.close(remove=True)
    stage.run.close()


def _counted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys.sort()
    begins = runs_of(keys)
    return keys[begins], np.diff(begins, append=len(keys))


def merge(sorted_runs: Sequence[Run], out: Run, block: int) -> None:
    """Appends the union of sorted runs to `out`, the counts of equal keys added, holding about `block` keys at a time.

    Each turn takes from every run what does not exceed the smallest of the last keys in view: no run has more of it.
    """
    size = max(1, block // max(1, len(sorted_runs)))
    heads = [_Head(run, size) for run in sorted_runs]
    while heads := [head for head in heads if len(head.keys)]:
        bound = min(head.keys[-1] for head in heads)
        taken = [head.take(bound) for head in heads]
        keys = np.concatenate([keys for keys, _ in taken])
        order = np.argsort(keys)
        keys, counts = keys[order], np.concatenate([counts for _, counts in taken])[order]
        begins = runs_of(keys)
        out.append(keys[begins], np.add.reduceat(counts, begins))


class _Head:
    """The part of a run that the merge has in view."""

    def __init__(self, run: Run, size: int) -> None:
        self.run, self.size, self.place = run, size, 0
        self.keys, self.counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self._fill()

    def take(self, bound: int) -> tuple[np.ndarray, np.ndarray]:
        """All that does not exceed `bound`; what follows comes into view."""
        cut = int(np.searchsorted(self.keys, bound, "right"))
        taken = self.keys[:cut], self.counts[:cut]
        self.keys, self.counts = self.keys[cut:], self.counts[cut:]
        self._fill()
        return taken

    def _fill(self) -> None:
        if not len(self.keys):
            stop = self.place + self.size
            self.keys, self.counts = self.run.keys.read(self.place, stop), self.run.counts.read(self.place, stop)
            self.place = min(stop, len(self.run.keys))
