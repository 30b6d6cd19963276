"""Kneser-Ney smoothing: how probable is an id after a context that was seen a few times, or never?

Interpolated (Chen & Goodman 1999, section 2.7 and eq. 25; the idea is Kneser & Ney 1995). For h = w_1 … w_{k-1} and
h' = w_2 … w_{k-1},

    p_k(w | h) = (c_k(h w) - D_k(c_k(h w))) / Σ_v c_k(h v)  +  γ_k(h) p_{k-1}(w | h')
    γ_k(h)     = Σ_v D_k(c_k(h v)) / Σ_v c_k(h v)                       p_0(w) = 1 / V

where c_k counts occurrences at the highest order, and below it how many different ids stand before the gram, and
D_k(0) = 0. A context after which nothing is counted hands all to the order below: γ = 1.

- `kneser_ney`: one discount D for every count and order.
- `modified` (eq. 26): D_k(1), D_k(2) and D_k(3), which also serves larger counts, from the number n_i of grams that are
  counted i times: Y = n_1 / (n_1 + 2 n_2),  D_k(i) = i - (i + 1) Y n_{i+1} / n_i. Where a corpus is too small or its
  vocabulary too plain for that (some n_i is 0, or a discount does not lie between 0 and i), the order takes the one
  discount, and the report says so.

Differences from the paper: no start symbols (the text is one stream), no cut-offs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from yuwen.training.counting.columns import Column, Workspace
from yuwen.training.counting.grams import runs_of
from yuwen.training.counting.levels import Level, Levels


@dataclass(frozen=True)
class Discounts:
    """D(0) = 0, D(1), D(2) and D(3 and more) of one order; `estimated` from counts of counts, or as given."""

    values: tuple[float, float, float, float]
    estimated: bool

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """D of every count."""
        return np.array(self.values)[np.minimum(counts, 3)]


@dataclass
class Smoothed:
    """One order's table: log p of each gram (natural, fp32), and log γ of each as a context (None at the top)."""

    log_p: Column
    backoff: Column | None
    discounts: Discounts


def smooth(built: Levels, smoothing: str, discount: float, workspace: Workspace) -> list[Smoothed]:
    """The tables of all orders, 1 first. The suffixes and counts in `built` are removed."""
    smoothed: list[Smoothed] = []
    below = Column.of(np.full(1, 1 / built.vocabulary))  # p of every gram one order below
    for order, size in enumerate(built.sizes, 1):
        top = order == built.order
        counted = built.counts if top else _counts(built.levels[order - 1], size, workspace)
        here = workspace.column(np.float64)
        discounts = _discounts(counted, smoothing, discount, workspace.part)
        table = Smoothed(workspace.column(np.float32), None if top else workspace.column(np.float32), discounts)
        if order == 1:
            c = counted.array()
            p, _ = _interpolate(c, discounts(c), np.zeros(1, np.int64), below.array())
            table.log_p.append(np.log(p))
            here.append(p)
        else:
            level, backoff, lower = built.levels[order - 2], smoothed[-1].backoff, below.array()
            assert backoff is not None
            for start, keys in _families(level, built.vocabulary, workspace.part):
                end, prefixes = start + len(keys), keys // built.vocabulary
                begins, c = runs_of(prefixes), counted.read(start, end)
                p, share = _interpolate(c, discounts(c), begins, lower[level.suffixes.read(start, end)])
                table.log_p.append(np.log(p))
                _extend(backoff, int(prefixes[-1]) + 1, prefixes[begins], np.log(share))
                if not top:
                    here.append(p)
            nowhere = np.empty(0, np.int64)
            _extend(backoff, built.sizes[order - 2], nowhere, nowhere)
            backoff.close()
            level.suffixes.close(remove=True)
        table.log_p.close()
        smoothed.append(table)
        counted.close(remove=True)
        below.close(remove=True)
        below = here
    below.close(remove=True)
    return smoothed


def _interpolate(
    counts: np.ndarray, discounts: np.ndarray, begins: np.ndarray, below: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """p of each gram, and γ of each context, whose grams begin at `begins`."""
    total = np.add.reduceat(counts, begins)
    share = np.where(total > 0, np.add.reduceat(discounts, begins) / np.maximum(total, 1), 1.0)
    sizes = np.diff(begins, append=len(counts))
    own = (counts - discounts) / np.repeat(np.maximum(total, 1), sizes)
    return own + np.repeat(share, sizes) * below, share


def _counts(above: Level, size: int, workspace: Workspace) -> Column:
    """How many different ids stand before each of an order's grams, told by the suffixes of the order above.

    All that is held at once is one order's numbers, of four bytes; written down, they are read in parts.
    """
    counts = np.zeros(size, np.int32)
    for suffixes in above.suffixes.parts(workspace.part):
        suffixes = np.sort(suffixes)
        begins = runs_of(suffixes)
        counts[suffixes[begins]] += np.diff(begins, append=len(suffixes)).astype(np.int32)
    column = workspace.column(np.int32)
    column.append(counts)
    return column


def _discounts(counts: Column, smoothing: str, discount: float, size: int) -> Discounts:
    given = Discounts((0.0, discount, discount, discount), estimated=False)
    if smoothing == "kneser_ney":
        return given
    n = np.zeros(6, np.int64)
    for part in counts.parts(size):
        n += np.bincount(np.minimum(part, 5), minlength=6)
    if not n[1:5].all():
        return given
    y = n[1] / (n[1] + 2 * n[2])
    one, two, three = (float(i - (i + 1) * y * n[i + 1] / n[i]) for i in (1, 2, 3))
    if not (0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3):
        return given
    return Discounts((0.0, one, two, three), estimated=True)


def _families(level: Level, vocabulary: int, part: int) -> Iterator[tuple[int, np.ndarray]]:
    """(place of the first, keys) in parts of about `part` that hold all continuations of a prefix or none."""
    size, start = max(part, vocabulary + 1), 0
    while start < len(level):
        keys = level.keys.read(start, start + size)
        if start + len(keys) < len(level):
            last = keys[-1] // vocabulary
            keys = keys[: int(np.searchsorted(keys, last * vocabulary))]
        yield start, keys
        start += len(keys)


def _extend(column: Column, length: int, places: np.ndarray, values: np.ndarray) -> None:
    """Lengthens a column: values at `places`, counted from its beginning, zeros between and after."""
    filled = np.zeros(length - len(column), np.float32)
    filled[places - len(column)] = values
    column.append(filled)
