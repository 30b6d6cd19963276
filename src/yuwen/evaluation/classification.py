"""How often a classifier is right, and how evenly.

    accuracy = right / all
    F1 of a class = 2 · right of it / (told to be it + really it),   macro F1 = mean over the classes

A class that is neither told nor there does not count, as in scikit-learn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from yuwen.data import Frame, RowShards, framed, in_order
from yuwen.errors import UserError
from yuwen.models import Classifier
from yuwen.models.inference import inference, refuse_not_finite

_TOKENS = 8192  # read at a time, at most


@dataclass(frozen=True)
class Classification:
    """What a classifier makes of labelled rows. `confusion[i][j]`: rows of class i that were told to be of class j."""

    loss: float  # nats per row
    accuracy: float
    macro_f1: float
    rows: int
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    seconds: float


def evaluate_rows(model: Classifier, shards: RowShards, frame: Frame, length: int) -> Classification:
    """Scores every row once, cut to `length` ids; the model is left in the mode it was in.

    UserError for rows without labels, or with others than the model's.
    """
    if shards.labels is None or "text" not in shards.fields:
        raise UserError("to measure a classifier, data.fields must name a text and a label")
    if tuple(shards.meta.labels) != model.config.labels:
        raise UserError(f"the rows have the labels {_few(shards.meta.labels)}, the model {_few(model.config.labels)}")
    start, classes = time.perf_counter(), len(model.config.labels)
    confusion_LL, nats = np.zeros((classes, classes), np.int64), 0.0
    with inference(model):
        for rows in in_order(shards, length, max(1, _TOKENS // length)):
            told = {f"{name}_BT": torch.from_numpy(array) for name, array in framed(rows, frame).items()}
            scores_BL = model.classify(**told).float()
            assert rows.labels is not None
            nats += float(F.cross_entropy(scores_BL, torch.from_numpy(rows.labels), reduction="sum"))
            np.add.at(confusion_LL, (rows.labels, scores_BL.argmax(-1).numpy()), 1)
    refuse_not_finite("the loss is", nats)
    accuracy, macro_f1 = accuracy_and_macro_f1(confusion_LL)
    return Classification(
        loss=nats / len(shards),
        accuracy=accuracy,
        macro_f1=macro_f1,
        rows=len(shards),
        labels=model.config.labels,
        confusion=tuple(tuple(row) for row in confusion_LL.tolist()),
        seconds=time.perf_counter() - start,
    )


def accuracy_and_macro_f1(confusion_LL: np.ndarray) -> tuple[float, float]:
    """Both figures of a table that counts rows by their class and the one they were told to be."""
    right_L, both_L = np.diag(confusion_LL), confusion_LL.sum(0) + confusion_LL.sum(1)
    occur_L = both_L > 0
    return float(right_L.sum() / confusion_LL.sum()), float((2 * right_L[occur_L] / both_L[occur_L]).mean())


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f" … ({len(labels)})" if len(labels) > 5 else "")
