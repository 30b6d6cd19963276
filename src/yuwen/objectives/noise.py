"""Where noise falls: random choices for all rows of a batch at once, each row with numbers of its own.

T is the width of the rows. Flat arrays list the spans of all rows, row after row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Spans(NamedTuple):
    """Spans of tokens taken out of each row: `taken` [B, T] says which, `marks` [B, T + 1] before which token (or at
    the end) a mark stands for a span. Spans of no token leave only their mark."""

    taken: np.ndarray
    marks: np.ndarray


def choose(rng: np.random.Generator, eligible_BT: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
    """Bool [B, T]: `counts` of each row's eligible places (there must be as many), every choice as likely."""
    keys_BT = np.where(eligible_BT, rng.random(eligible_BT.shape), 2.0)
    last_B1 = np.take_along_axis(np.sort(keys_BT, axis=1), np.maximum(counts_B - 1, 0)[:, None], axis=1)
    return (keys_BT <= last_B1) & (counts_B > 0)[:, None]


def pick(rng: np.random.Generator, *eligible_BT: np.ndarray) -> np.ndarray:
    """int64 [B]: one place of each row, uniformly among those the first mask allows; where it allows none, among those
    of the next. The last mask must allow one in every row."""
    keys_BT = rng.random(eligible_BT[0].shape)
    allowed_BT = eligible_BT[-1]
    for mask_BT in reversed(eligible_BT[:-1]):
        allowed_BT = np.where(mask_BT.any(1, keepdims=True), mask_BT, allowed_BT)
    return np.where(allowed_BT, keys_BT, -1.0).argmax(1)


def refuse_crowded(name: str, rate: float, mean_span: float) -> None:
    """ValueError where so large a share in spans so short leaves no token between them."""
    most = mean_span / (1 + mean_span)
    if rate > most:
        raise ValueError(
            f"{name}={rate} in spans of mean_span={mean_span} leaves too few tokens between them: at most {most:.2f}"
        )


def composition(rng: np.random.Generator, totals_B: np.ndarray, parts_B: np.ndarray) -> np.ndarray:
    """Lengths of at least 1, flat: each row's total in so many parts, every way of writing it so as likely."""
    places_T = np.arange(max(1, int(totals_B.max(initial=0))))
    inside_BT = (places_T > 0) & (places_T < totals_B[:, None])
    starts_BT = choose(rng, inside_BT, np.maximum(parts_B - 1, 0))
    starts_BT[:, 0] |= parts_B > 0
    rows, starts = np.nonzero(starts_BT)
    ends = np.append(starts[1:], 0)
    last = np.append(rows[1:] != rows[:-1], True) if len(rows) else np.zeros(0, bool)
    return np.where(last, totals_B[rows], ends[: len(rows)]) - starts


def poisson(
    rng: np.random.Generator, totals_B: np.ndarray, mean: float, most_B: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(lengths flat, spans of each row): drawn from Poisson(mean), 0 included, until a row's total is reached.

    The span that reaches it is cut to fit; of at most `most` spans of a row the last takes what is left.
    """
    numbers_K = np.arange(max(1, int(most_B.max(initial=0))))
    drawn_BK = rng.poisson(mean, (len(totals_B), len(numbers_K)))
    left_BK = totals_B[:, None] - (np.cumsum(drawn_BK, axis=1) - drawn_BK)
    wanted_BK = (left_BK > 0) & (numbers_K < most_B[:, None])
    lengths_BK = np.where(numbers_K == most_B[:, None] - 1, left_BK, np.minimum(drawn_BK, left_BK))
    return lengths_BK[wanted_BK], wanted_BK.sum(1)


def place(rng: np.random.Generator, ordinary_BT: np.ndarray, lengths: np.ndarray, spans_B: np.ndarray) -> Spans:
    """Lays each row's spans (`lengths`, flat) over its ordinary tokens, every way of keeping them apart as likely.

    What stays of a row's ordinary tokens leaves gaps before, between and behind them; the spans fall into different
    gaps, so one token at least stays between two of them. A special token within a span stays where it is and cuts it
    in two. A row needs one gap a span.
    """
    B, T = ordinary_BT.shape
    rows = np.repeat(np.arange(B), spans_B)
    taken_B = np.bincount(rows, lengths, minlength=B).astype(np.int64)
    gaps_B = ordinary_BT.sum(1) - taken_B + 1
    _, gaps = np.nonzero(choose(rng, np.arange(T + 1) < gaps_B[:, None], spans_B))

    # place of the n-th ordinary token; behind the last one stands the end
    of_ordinary_BX = np.full((B, T + 1), T)
    found_rows, found = np.nonzero(ordinary_BT)
    of_ordinary_BX[found_rows, np.cumsum(ordinary_BT, axis=1)[found_rows, found] - 1] = found

    before = np.cumsum(lengths) - lengths - np.repeat(np.cumsum(taken_B) - taken_B, spans_B)
    spans = np.repeat(np.arange(len(lengths)), lengths)  # the span of each token taken
    inside = np.arange(len(spans)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    taken_BT = np.zeros((B, T), bool)
    taken_BT[rows[spans], of_ordinary_BX[rows[spans], (gaps + before)[spans] + inside]] = True

    marks_BX = np.zeros((B, T + 1), bool)
    marks_BX[:, :T] = taken_BT
    marks_BX[:, 1:T] &= ~taken_BT[:, :-1]
    empty = lengths == 0
    marks_BX[rows[empty], of_ordinary_BX[rows[empty], (gaps + before)[empty]]] = True
    return Spans(taken_BT, marks_BX)


def between(marks_BX: np.ndarray, tokens_BT: np.ndarray) -> np.ndarray:
    """[B, 2T + 1]: marks [B, T + 1] and tokens [B, T] by turns, a mark first and last."""
    B, T = tokens_BT.shape
    joined = np.empty((B, 2 * T + 1), np.result_type(marks_BX, tokens_BT))
    joined[:, 0::2], joined[:, 1::2] = marks_BX, tokens_BT
    return joined


def packed(values_BT: np.ndarray, keep_BT: np.ndarray, width: int, fill: int) -> np.ndarray:
    """int64 [B, width]: each row's kept values moved to the left, the rest filled; what goes past `width` is cut."""
    places_BT = np.cumsum(keep_BT, axis=1) - 1
    rows, columns = np.nonzero(keep_BT & (places_BT < width))
    out = np.full((len(values_BT), width), fill, np.int64)
    out[rows, places_BT[rows, columns]] = values_BT[rows, columns]
    return out


def framed(first: int | None, ids_BT: np.ndarray, last: int | None) -> np.ndarray:
    """The rows with one id before and one behind each, as far as they are given."""
    columns = [np.full((len(ids_BT), 1), part) if isinstance(part, int) else part for part in (first, ids_BT, last)]
    return np.concatenate([column for column in columns if column is not None], axis=1)
