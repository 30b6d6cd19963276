"""Accuracy and macro F1 of a classifier over rows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yuwen.data import RowShards
from yuwen.data.framing import Frame
from yuwen.errors import UserError
from yuwen.evaluation.classification import accuracy_and_macro_f1, evaluate_rows
from yuwen.models import ClassifierConfig, build_classifier, parse_config

TABLES = st.integers(1, 5).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n, max_size=n)
)


@given(TABLES.filter(lambda table: any(map(any, table))))
def test_figures_by_their_definitions(table: list[list[int]]) -> None:
    pairs = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    scores = []
    for label in sorted({label for pair in pairs for label in pair}):
        right = sum(pair == (label, label) for pair in pairs)
        told, there = sum(pair[1] == label for pair in pairs), sum(pair[0] == label for pair in pairs)
        precision = Fraction(right, told) if told else Fraction(0)
        recall = Fraction(right, there) if there else Fraction(0)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else Fraction(0))
    accuracy, macro_f1 = accuracy_and_macro_f1(np.array(table))
    assert accuracy == pytest.approx(sum(i == j for i, j in pairs) / len(pairs))
    assert macro_f1 == pytest.approx(float(sum(scores) / len(scores)))


def test_figures_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    drawn = np.random.default_rng(0)
    really, told = drawn.integers(0, 6, 200), drawn.integers(1, 7, 200)
    confusion = np.zeros((8, 8), np.int64)
    np.add.at(confusion, (really, told), 1)
    expected = metrics.accuracy_score(really, told), metrics.f1_score(really, told, average="macro")
    assert accuracy_and_macro_f1(confusion) == pytest.approx(expected)


class Shards:
    """Rows in memory, as far as measuring asks for them."""

    def __init__(self, rows: list[list[int]], labels: list[int], names: list[str]) -> None:
        self.rows, self.labels, self.scores = rows, np.array(labels, np.int32), None
        self.fields, self.lengths = ("text",), np.array([len(row) for row in rows])
        self.meta = type("Meta", (), {"labels": names})

    def __len__(self) -> int:
        return len(self.rows)

    def text(self, row: int, place: int, most: int) -> np.ndarray:
        return np.array(self.rows[row][:most], np.int64)


def classifier() -> Any:
    shape = {"vocabulary": 30, "context": 16, "layers": 1, "width": 16, "heads": 2}
    config = ClassifierConfig(body=parse_config("gpt2", shape), labels=("a", "b", "c"))
    model = build_classifier(config, torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.output.weight += torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    return model


def test_every_row_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from yuwen.evaluation import classification

    drawn = np.random.default_rng(3)
    rows = [drawn.integers(3, 30, drawn.integers(1, 20)).tolist() for _ in range(25)]
    labels = drawn.integers(0, 3, 25).tolist()
    model, frame = classifier(), Frame((), (2,), (), 0)
    shards: Any = Shards(rows, labels, ["a", "b", "c"])
    found = evaluate_rows(model, shards, frame, 16)
    with torch.no_grad():
        scores = torch.stack([model.eval().classify(torch.tensor([row[:16]]))[0] for row in rows])
    nats = torch.nn.functional.cross_entropy(scores, torch.tensor(labels)).item()
    assert found.loss == pytest.approx(nats, abs=1e-5)
    assert found.accuracy == int((scores.argmax(1) == torch.tensor(labels)).sum()) / 25
    assert found.rows == 25 and np.sum(found.confusion) == 25
    monkeypatch.setattr(classification, "_TOKENS", 16)  # one row at a time
    again = evaluate_rows(model, shards, frame, 16)
    assert (again.accuracy, again.confusion) == (found.accuracy, found.confusion)
    assert again.loss == pytest.approx(found.loss, abs=1e-6)


def test_a_model_being_trained_goes_on_training() -> None:
    model = classifier().train()
    evaluate_rows(model, Shards([[3, 4]], [1], ["a", "b", "c"]), Frame((), (2,), (), 0), 16)  # type: ignore[arg-type]
    assert model.training


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    frame = Frame((), (2,), (), 0)
    others: Any = Shards([[3, 4]], [1], ["a", "b"])
    with pytest.raises(UserError, match="the rows have the labels a, b, the model a, b, c"):
        evaluate_rows(classifier(), others, frame, 16)
    others.labels = None
    with pytest.raises(UserError, match=r"data\.fields must name a text and a label"):
        evaluate_rows(classifier(), others, frame, 16)
    broken = classifier()
    with torch.no_grad():
        broken.output.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        evaluate_rows(broken, Shards([[3, 4]], [1], ["a", "b", "c"]), frame, 16)  # type: ignore[arg-type]


def test_an_empty_folder_is_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prepared rows here"):
        RowShards(tmp_path)
