"""Sorted n-grams → one table for each order, in which a gram is its prefix's rank and one more id.

    key_k(w_1 … w_k) = rank_{k-1}(w_1 … w_{k-1}) · V + w_k        rank_1(w) = w

Tables are sorted by key, which is the order of the ids, so the grams that continue a prefix stand next to each other.
The suffix of a gram, without its first id, is a gram of the text too; its rank is found in the table below:

    suffix_k(w_1 … w_k) = rank_{k-1}(w_2 … w_k) = find_{k-1}(suffix_{k-1}(w_1 … w_{k-1}) · V + w_k)

That one link gives what Kneser-Ney smoothing needs: how many different ids stand before a gram is how many grams one
longer link to it, and the probability a gram backs off to is that of its suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yuwen.training.counting.columns import Column, Workspace
from yuwen.training.counting.grams import Stage, places_in


@dataclass
class Level:
    """All grams of one order: sorted keys, int64, and the ranks of their suffixes one order below, int64."""

    keys: Column
    suffixes: Column

    def __len__(self) -> int:
        return len(self.keys)


@dataclass
class Levels:
    """The tables from order 2 up, and the counts (int64) of the grams of the highest order, that of 1 included."""

    vocabulary: int
    order: int
    levels: list[Level]
    counts: Column

    @property
    def sizes(self) -> list[int]:
        """Entries of each order; every id of the vocabulary has one of order 1."""
        return [self.vocabulary, *map(len, self.levels)]


def build_levels(stages: Sequence[Stage], vocabulary: int, workspace: Workspace) -> Levels:
    """The tables of what was counted. The stages' own runs are removed."""
    order = stages[-1].order
    levels = [Level(workspace.column(np.int64), workspace.column(np.int64)) for _ in range(2, order + 1)]
    built = Levels(vocabulary, order, levels, workspace.column(np.int64))
    if order == 1:
        keys, counts = stages[0].run.keys.array(), np.zeros(vocabulary, np.int64)
        counts[keys - 1] = stages[0].run.counts.array()
        built.counts.append(counts)
    for stage in stages:
        _Descent(stage, built).run(workspace.part)
    for stage in stages:
        stage.run.close(remove=True)
    for number, level in enumerate(levels):
        level.keys.close()
        _link(level, levels[number - 1] if number else None, vocabulary, workspace.part)
        level.suffixes.close()
    built.counts.close()
    return built


class _Descent:
    """One stage's sorted grams, cut down digit by digit to all its orders, part by part.

    Between parts it remembers each order's last gram and that gram's rank: the next part may go on with it.
    """

    def __init__(self, stage: Stage, built: Levels) -> None:
        self.stage, self.built = stage, built
        self.last: dict[int, int] = {}
        self.rank: dict[int, int] = {}
        # grams of the stage below that the end of the text cut short have no rank in any table
        below = stage.below
        self.short = np.empty(0, np.int64) if below is None else _cut_short(below)

    def run(self, size: int) -> None:
        keys, counts = self.stage.run.keys, self.stage.run.counts
        for start in range(0, len(keys), size):
            self._part(keys.read(start, start + size), counts.read(start, start + size))

    def _part(self, grams: np.ndarray, counts: np.ndarray) -> None:
        """`grams` are some of the stage's longest ones; cut down, those that the part before did not have."""
        stage, base = self.stage, self.stage.base
        lowest = max(stage.first, 1)  # a later stage begins at 2 at least: two ids of any vocabulary fit into a key
        cut = {}
        for order in range(stage.order, lowest, -1):
            prefixes = grams // base
            digits = grams - prefixes * base
            new = np.ones(len(grams), bool)
            np.not_equal(prefixes[1:], prefixes[:-1], out=new[1:])
            if len(grams):
                new[0] = prefixes[0] != self.last.get(order)
                self.last[order] = int(prefixes[-1])
            cut[order] = digits, new
            grams = prefixes[new]
        ranks = grams - 1 if not stage.first else grams - np.searchsorted(self.short, grams)
        for order in range(lowest + 1, stage.order + 1):
            digits, new = cut[order]
            parents = np.concatenate(([self.rank.get(order - 1, -1)], ranks))[np.cumsum(new)]
            if len(ranks):
                self.rank[order - 1] = int(ranks[-1])
            whole = digits > 0
            level = self.built.levels[order - 2]
            ranks = len(level) - 1 + np.cumsum(whole)
            level.keys.append(parents[whole] * self.built.vocabulary + (digits[whole] - 1))
            if order == self.built.order:
                self.built.counts.append(counts[whole])


def _cut_short(stage: Stage) -> np.ndarray:
    """The indices of a stage's grams that end with the digit 0. There are fewer than the order: the text ends once."""
    found, start = [], 0
    for part in stage.run.keys.parts(1 << 24):
        found.append(start + np.flatnonzero(part % stage.base == 0))
        start += len(part)
    return np.concatenate(found)


def _link(level: Level, below: Level | None, vocabulary: int, size: int) -> None:
    """Finds the suffix of every gram of a level."""
    if below is None:
        for keys in level.keys.parts(size):
            level.suffixes.append(keys % vocabulary)
        return
    table, links = below.keys.array(), below.suffixes.array()
    for keys in level.keys.parts(size):
        prefixes = keys // vocabulary
        level.suffixes.append(places_in(table, links[prefixes] * vocabulary + (keys - prefixes * vocabulary)))
