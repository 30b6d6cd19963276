"""Tasks on real models, where they are at hand ($YUWEN_MODELS)."""

from __future__ import annotations

import pytest

from yuwen import tasks
from yuwen.app.loading.load import Loaded
from yuwen.interop.sentence import read_pooling
from yuwen.text import Document


def test_like_texts_are_near(minilm: Loaded) -> None:
    candidates = ["The weather is lovely today.", "He drove to the stadium.", "My card was stolen."]
    rows = list(
        tasks.similar(
            minilm,
            ["It is so sunny outside!", "Someone took my bank card"],
            candidates=candidates,
            pooling=read_pooling(minilm.path),
        )
    )
    assert [row["matches"][0]["index"] for row in rows] == [0, 2]


def test_labels_alone_sort_plain_cases(minilm: Loaded) -> None:
    texts = ["The striker scored twice in the final", "Shares fell after the bank's earnings"]
    rows = tasks.classify(minilm, texts, labels=["sports", "business"], pooling=read_pooling(minilm.path))
    assert [row["label"] for row in rows] == ["sports", "business"]


@pytest.mark.slow
def test_a_small_decoder_in_every_task(smollm2: Loaded) -> None:
    context = "Marie Curie was born in Warsaw. She discovered radium in 1898."
    row = next(tasks.answer(smollm2, ["Where was Marie Curie born?"], context=context))
    assert row["answer"] is not None and "Warsaw" in row["answer"]
    assert context[row["start"] : row["end"]] == row["answer"]
    shots = [
        Document("I loved every minute", "s", 1, fields={"label": "positive"}),
        Document("A waste of money", "s", 2, fields={"label": "negative"}),
    ]
    texts = ["This is wonderful, the best film of the year", "This is terrible, the worst film of the year"]
    rows = tasks.classify(smollm2, texts, shots=shots)
    assert [row["label"] for row in rows] == ["positive", "negative"]
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "year": {"type": "integer"}},
        "required": ["name", "year"],
        "additionalProperties": False,
    }
    data = next(tasks.extract(smollm2, [context], schema=schema))["data"]
    assert set(data) == {"name", "year"} and isinstance(data["year"], int)
    for row in tasks.tag(smollm2, [context], labels=["person", "city"]):
        assert all(context[span["start"] : span["end"]] == span["text"] for span in row["spans"])
