"""What a task asks of a model is told in one line, not found out half-way."""

from __future__ import annotations

from typing import Any

import pytest
from task_models import Ready, decoder

from yuwen.errors import UserError
from yuwen.tasks import answer, chat, classify, tag
from yuwen.tokens import Tokenizer

ASKED: dict[str, Any] = {
    "chat": lambda model: chat(model, ["a fox"]),
    "classify": lambda model: classify(model, ["a fox"], labels=["a", "b"]),
    "answer": lambda model: answer(model, ["who?"], context="A fox."),
    "tag": lambda model: tag(model, ["a fox"], labels=["animal"]),
}


@pytest.mark.parametrize("task", ASKED)
def test_a_model_that_answers_sources_continues_nothing(task: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=f"{task} needs a model that continues text, and t5 answers a source"):
        list(ASKED[task](decoder(tokenizer, "t5")))


@pytest.mark.parametrize("task", ["answer", "tag"])
def test_a_model_that_tells_classes_writes_nothing(task: str, tokenizer: Tokenizer) -> None:
    model = decoder(tokenizer)
    with pytest.raises(UserError, match=f"{task} needs a model that writes, and this one tells classes"):
        list(ASKED[task](Ready(model.model, model.tokenizer, classifier=model.model)))
