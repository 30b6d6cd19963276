"""Labels by a decoder: boundaries, normalising, calibration, examples, order."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from task_models import Ready, decoder
from test_task_reading import naive

from yuwen.errors import UserError
from yuwen.tasks import classify
from yuwen.tasks.calibrate import CONTENT_FREE, calibrate, prior
from yuwen.tasks.ids import with_answers
from yuwen.tasks.prompts import Prompt
from yuwen.text import Document
from yuwen.tokens import Tokenizer

TEXTS = ["a good film", "bad", "这家酒店很好，山里有座庙", "The quick brown fox", "", "太差了", "good good good film"]
LABELS = ["positive", "negative", "so so"]
SHOTS = [Document("fine", "s", 1, fields={"label": "positive"}), Document("poor", "s", 2, fields={"label": "negative"})]


def by_hand(ready: Ready, text: str, language: str, *, mean: bool) -> np.ndarray:
    """softmax of each label's (mean) log-likelihood, from whole texts without cache."""
    before = Prompt.of("classify").up_to("label", language, text=text, labels=LABELS, examples=[])
    prompt, labels = with_answers(ready, before, LABELS, raw=False)
    sums = np.array([naive(ready, prompt, ids) / (len(ids) if mean else 1) for ids in labels])
    exp = np.exp(sums - sums.max())
    return exp / exp.sum()


@pytest.mark.parametrize("mean", [True, False])
def test_scores_by_their_definition(ready: Ready, mean: bool) -> None:
    rows = list(
        classify(ready, TEXTS, labels=LABELS, calibration=False, normalise="mean" if mean else "sum", language="en")
    )
    assert [row["input"] for row in rows] == TEXTS
    for row in rows:
        expected = by_hand(ready, row["input"], "en", mean=mean)
        assert list(row["scores"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert row["label"] == LABELS[int(expected.argmax())]
        assert sum(row["scores"].values()) == pytest.approx(1)


def test_calibration_by_its_definition(one: Ready) -> None:
    rows = list(classify(one, TEXTS, labels=LABELS))
    assert {row["label"] for row in rows} <= set(LABELS)
    for row, language in zip(rows, ["en", "en", "zh", "en", "en", "zh", "en"], strict=True):
        free = np.stack([by_hand(one, text, language, mean=True) for text in CONTENT_FREE[language]]).mean(0)
        weighted = by_hand(one, row["input"], language, mean=True) / free
        assert list(row["scores"].values()) == pytest.approx((weighted / weighted.sum()).tolist(), abs=1e-4)


def test_an_input_that_says_nothing_is_undecided() -> None:
    p = np.array([[0.9, 0.1], [0.7, 0.3]])
    assert calibrate(prior(p)[None], prior(p)) == pytest.approx(np.array([[0.5, 0.5]]))
    assert calibrate(np.array([[0.6, 0.4]]), np.array([0.8, 0.2])).argmax() == 1
    assert np.isfinite(calibrate(np.array([[0.5, 0.5]]), np.array([1.0, 0.0]))).all()


def test_a_batch_gives_what_each_gives_alone(ready: Ready) -> None:
    together = list(classify(ready, TEXTS, labels=LABELS, shots=SHOTS))
    for text, row in zip(TEXTS, together, strict=True):
        alone = next(classify(ready, [text], labels=LABELS, shots=SHOTS))
        assert alone["label"] == row["label"]
        assert list(alone["scores"].values()) == pytest.approx(list(row["scores"].values()), abs=1e-4)


def test_prompt_and_label_are_the_ids_of_the_whole_text(one: Ready) -> None:
    names = [["positive", "pos"], ["正面", "负面"], [" a", "b"]]
    for before, labels in product(["Label: ", "Label:", "类别：", "x"], names):
        prompt, parts = with_answers(one, before, labels, raw=False)
        for label, ids in zip(labels, parts, strict=True):
            assert ids and prompt + ids == one.tokenizer.encode(before + label)


def test_a_chat_model_answers_in_its_own_turn(chatting: Ready) -> None:
    prompt, parts = with_answers(chatting, "Is it good?\nLabel: ", ["yes", "no"], raw=False)
    message = [{"role": "user", "content": "Is it good?\nLabel:"}]
    assert prompt == chatting.tokenizer.render(message, generate=True).ids.tolist()
    assert parts == [chatting.tokenizer.encode("yes"), chatting.tokenizer.encode("no")]
    raw, plain = with_answers(chatting, "Label: ", ["yes", "no"], raw=True)
    assert raw + plain[0] == chatting.tokenizer.encode("Label: yes")
    one, other = (next(classify(chatting, ["x"], labels=LABELS, raw=raw))["scores"] for raw in (None, True))
    assert one != other


def test_examples_and_their_choice(one: Ready) -> None:
    rows = [Document(f"text {n}", "s", n, fields={"label": LABELS[n % 3]}) for n in range(30)]
    scores = [
        next(classify(one, ["good"], shots=rows, per_class=2, seed=seed, labels=LABELS))["scores"] for seed in (1, 1, 2)
    ]
    assert scores[0] == scores[1] != scores[2]
    assert set(next(classify(one, ["good"], shots=rows, per_class=1))["scores"]) == set(LABELS)


def test_your_own_prompt(one: Ready, tmp_path: Path) -> None:
    mine = tmp_path / "mine.j2"
    mine.write_text("{{ text }} => {{ label }} (and more)", encoding="utf-8")
    row = next(classify(one, ["good"], labels=["yes", "no"], prompt=mine, calibration=False))
    sums = [naive(one, *split(one, "good => ", label)) for label in ("yes", "no")]
    assert (row["label"] == "yes") == (sums[0] / split_length(one, "yes") > sums[1] / split_length(one, "no"))
    for source, said in (
        ("{{ text }}", "no {{ label }}"),
        ("{{ txt }} {{ label }}", "'txt' is undefined"),
        ("{{ 1 % 0 }} {{ label }}", "cannot be rendered: .*by zero"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }} {{ label }}", "cannot be rendered"),
        ("{% for %}", "mine.j2:1"),
        ("{{ ''.__class__.__mro__ }} {{ label }}", "mine.j2"),
    ):
        mine.write_text(source, encoding="utf-8")
        with pytest.raises(UserError, match=said.replace("{", r"\{")):
            list(classify(one, ["good"], labels=["yes", "no"], prompt=mine))


def split(ready: Ready, before: str, label: str) -> tuple[list[int], list[int]]:
    prompt, parts = with_answers(ready, before, ["yes", "no"], raw=False)
    return prompt, parts[["yes", "no"].index(label)]


def split_length(ready: Ready, label: str) -> int:
    return len(split(ready, "good => ", label)[1])


def test_a_bad_row_loses_nothing_before_it(tokenizer: Tokenizer) -> None:
    small = decoder(tokenizer, context=64)
    rows = classify(small, ["good", "bad", "山" * 100, "good"], labels=["a", "b"], calibration=False)
    assert [next(rows)["input"], next(rows)["input"]] == ["good", "bad"]
    with pytest.raises(UserError, match="input:3: .*context 64"):
        next(rows)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": ["a"]}, "two labels"),
        ({"labels": ["a", "a"]}, "twice"),
        ({"labels": ["a", " "]}, "empty label"),
        ({}, "two labels"),
        ({"labels": ["a", "b"], "blend": 0.5}, "blend means nothing for a decoder"),
        ({"labels": ["a", "b"], "per_class": 1}, "per_class means nothing for a task without shots"),
        ({"labels": ["a", "b"], "normalise": "max"}, "normalise='max'"),
        ({"labels": ["a", "b"], "language": "fr"}, "language='fr'"),
        ({"labels": ["a", "b"], "shots": [Document("x", "s", 3)]}, "s:3: an example without a label"),
        ({"labels": ["a", "b"], "shots": [Document("x", "s", 3, fields={"label": "c"})]}, "s:3: label 'c'"),
        ({"shots": SHOTS, "per_class": 2}, "has 1 examples, not 2"),
        ({"shots": SHOTS, "seed": 1}, "seed means nothing"),
    ],
)
def test_mistakes(one: Ready, settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        list(classify(one, ["good"], **settings))
