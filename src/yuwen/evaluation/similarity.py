"""Does a model find alike what people find alike? (the semantic textual similarity tasks; Cer et al. 2017)

    Pearson r(x, y) = cov(x, y) / (sd(x) sd(y))             Spearman r(rank x, rank y), equal ones share the mean rank

x are the cosines of two texts' vectors, y what people said. Spearman asks only for the order, so it is the one to
compare models by: whether cosines lie between 0 and 1 or between 0.9 and 1 does not matter to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yuwen.errors import UserError
from yuwen.models.inference import refuse_not_finite


@dataclass(frozen=True)
class Similarity:
    """How well a model's cosines agree with what people said of pairs of texts; 1 is the same order of all."""

    spearman: float
    pearson: float
    rows: int
    seconds: float


def pearson(x_N: np.ndarray, y_N: np.ndarray) -> float:
    """The linear correlation of two series. UserError where one of them is constant, or has a number that is none."""
    x_N, y_N = (np.asarray(series, np.float64) for series in (x_N, y_N))
    refuse_not_finite("a cosine is", np.stack((x_N, y_N)))
    # what differs by rounding only is constant
    if len(x_N) < 2 or any(np.ptp(series) <= 1e-12 * np.abs(series).max() for series in (x_N, y_N)):
        raise UserError("a correlation needs rows that differ, in their scores and in their texts: give more rows")
    x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
    return float(x_N @ y_N / np.sqrt((x_N @ x_N) * (y_N @ y_N)))


def spearman(x_N: np.ndarray, y_N: np.ndarray) -> float:
    """The correlation of two series' ranks. Errors as `pearson`."""
    if not (np.isfinite(x_N).all() and np.isfinite(y_N).all()):
        return pearson(x_N, y_N)
    return pearson(ranks(x_N), ranks(y_N))


def ranks(values_N: np.ndarray) -> np.ndarray:
    """Places 1 … N from the smallest on; equal values share the mean of theirs."""
    _, which_N, counts = np.unique(np.asarray(values_N), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which_N], np.float64)
