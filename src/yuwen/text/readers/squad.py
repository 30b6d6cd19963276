"""Reading comprehension: SQuAD 1.1 and 2.0, and what follows their layout (CMRC, XQuAD, QuAC), nested or flat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yuwen.text.readers.fault import Fault, kind


def is_nested(data: Any) -> bool:
    """Whether this is the `data` of a SQuAD file: articles of paragraphs of questions."""
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "paragraphs" in data[0]


def is_question(row: dict[str, Any]) -> bool:
    return is_asked(row) and "answers" in row


def is_asked(row: dict[str, Any]) -> bool:
    """Whether the row holds a question about a context, answered or not; it may hold a text of its own as well."""
    return "context" in row and "question" in row


def questions(data: list[Any]) -> Iterator[dict[str, Any]]:
    """One flat row per question. A faulty article yields itself, so that the fault is found as a row's."""
    for article in data:
        if not isinstance(article, dict) or not isinstance(article.get("paragraphs"), list):
            yield article
            continue
        title = {"title": article["title"]} if "title" in article else {}
        for paragraph in article["paragraphs"]:
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                yield paragraph
                continue
            for question in paragraph["qas"]:
                whole = isinstance(question, dict) and "context" in paragraph
                yield {"answers": [], **title, "context": paragraph["context"], **question} if whole else question


def parse(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(context and question joined by a line break, the row with `answers` as [{"text", "answer_start"}, …]).

    A row without them has not been answered yet: they are none.
    """
    for name in ("context", "question"):
        if not isinstance(row[name], str):
            raise Fault(name, "wrong type", f"is {kind(row[name])}, not a string", "quote it, or remove the row")
    return f"{row['context']}\n{row['question']}", {**row, "answers": _answers(row.get("answers", []))}


def _answers(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):  # the flat form of the datasets library: a column of texts, a column of starts
        texts, starts = value.get("text"), value.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise Fault("answers", "wrong type", "text and answer_start are not lists of one length", _SHAPE)
        value = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(value, list):
        raise Fault("answers", "wrong type", f"is {kind(value)}, not a list", _SHAPE)
    for answer in value:
        good = isinstance(answer, dict) and isinstance(answer.get("text"), str)
        if not good or not isinstance(answer.get("answer_start"), int):
            raise Fault("answers", "wrong type", "an answer without text or answer_start", _SHAPE)
    return value


_SHAPE = 'write [{"text": "…", "answer_start": 0}]'
