"""Correlations by their definitions, and a model's vectors measured on pairs with scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen import load, tasks
from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.evaluation.similarity import pearson, ranks, spearman
from yuwen.interop import save_folder
from yuwen.tokens import Tokenizer

FIELDS = "text=a,pair=b,score=alike"
PAIRS = [
    ("从前有座山", "山里有座庙", 3.5),
    ("The quick brown fox.", "A fox.", 4.0),
    ("语文", "fox", 0.0),
    ("a", "a", 5.0),
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(-1e6, 1e6)), min_size=3, max_size=30))
def test_spearman_is_its_definition(pairs: list[tuple[int, float]]) -> None:
    """Each value's rank is the mean of the places it could take when sorted."""
    x_N, y_N = (np.array(series, float) for series in zip(*pairs, strict=True))
    for series in (x_N, y_N):
        counted = [(series < one).sum() + ((series == one).sum() + 1) / 2 for one in series]
        assert ranks(series).tolist() == counted
    if len(set(x_N)) > 1 and len(set(y_N)) > 1:
        expected = np.corrcoef(ranks(x_N), ranks(y_N))[0, 1]
        assert spearman(x_N, y_N) == pytest.approx(expected, abs=1e-12)
        assert spearman(np.exp(x_N), y_N) == pytest.approx(expected, abs=1e-12), "only the order counts"
    else:
        with pytest.raises(UserError, match="needs rows that differ"):
            spearman(x_N, y_N)


def test_what_is_no_number() -> None:
    with pytest.raises(UserError, match="not finite"):
        spearman(np.array([0.1, np.nan, 0.3]), np.array([1.0, 2.0, 3.0]))
    assert pearson(np.array([1.0, 2.0, 4.0]), np.array([-2.0, -4.0, -8.0])) == pytest.approx(-1)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    lines = [json.dumps({"a": a, "b": b, "alike": score}, ensure_ascii=False) for a, b, score in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "pairs.jsonl"


def test_vectors_are_those_of_embed(pairs: Path, bytewise: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a decoder here, whose vectors are the mean of its states: the whole command against numpy on `embed`."""
    folder = pairs.parent / "model"
    save_folder(folder, random_model("qwen3", bytewise.size), bytewise)
    assert run(["evaluate", str(folder), "--data", str(pairs), "--fields", FIELDS, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    loaded = load(folder)
    one, other = (
        np.array([row["embedding"] for row in tasks.embed(loaded, [pair[n] for pair in PAIRS])]) for n in (0, 1)
    )
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    scores = np.array([score for *_, score in PAIRS])
    assert answer["rows"] == 4
    assert answer["pearson"] == pytest.approx(np.corrcoef(cosines, scores)[0, 1], abs=1e-5)
    assert answer["spearman"] == pytest.approx(np.corrcoef(ranks(cosines), ranks(scores))[0, 1], abs=1e-12)
    assert run(["evaluate", str(folder), "--data", str(pairs), "--fields", FIELDS]) == 0
    assert f"Spearman  {answer['spearman']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "more", "said"),
    [
        ("text=a,pair=b", [], "two texts and a score: text=COLUMN,pair=COLUMN,score=COLUMN"),
        ("text=a,label=b", [], "tells no classes"),
        (FIELDS, ["--window", "8"], "--window means nothing"),
        ("text=a,pair=b,score=nobody", [], "no such field"),
        ("text=a,pair=b,score=a", [], "not a number"),
    ],
)
def test_mistakes_are_one_line(
    fields: str, more: list[str], said: str, pairs: Path, bytewise: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pairs.parent / "model"
    save_folder(folder, random_model("qwen3", bytewise.size), bytewise)
    assert run(["evaluate", str(folder), "--data", str(pairs), "--fields", fields, *more]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_texts_that_are_all_alike_do_not_differ_by_rounding(
    pairs: Path, bytewise: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pairs.parent / "model"
    save_folder(folder, random_model("qwen3", bytewise.size), bytewise)
    itself = FIELDS.replace("pair=b", "pair=a")
    assert itself != FIELDS and run(["evaluate", str(folder), "--data", str(pairs), "--fields", itself]) == 2
    assert "needs rows that differ" in capsys.readouterr().err


def test_rows_that_all_have_one_score(pairs: Path, bytewise: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    pairs.write_text(pairs.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    folder = pairs.parent / "model"
    save_folder(folder, random_model("qwen3", bytewise.size), bytewise)
    assert run(["evaluate", str(folder), "--data", str(pairs), "--fields", FIELDS]) == 2
    assert "needs rows that differ" in capsys.readouterr().err
