"""Inputs from files as they are asked for, and files of results that are ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from yuwen.errors import UserError
from yuwen.tasks import ResultFile, answer, chat, read_inputs
from yuwen.tasks.answer import asked_of
from yuwen.tasks.files import read_context
from yuwen.text import Document

QUESTION = {"context": "Alice met Bob in Paris.", "question": "Who?"}
MAKER = {"task": "embed"}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_questions_need_no_answers(tmp_path: Path) -> None:
    (row,) = read_inputs(write(tmp_path / "q.jsonl", QUESTION))
    assert asked_of(row)["input"] == "Who?"


@pytest.mark.parametrize("field", ["other", "question"])
def test_the_field_that_is_named_is_the_question(one: Any, tmp_path: Path, field: str) -> None:
    row = {**QUESTION, "other": "Where?"}
    (found,) = answer(one, read_inputs(write(tmp_path / "q.jsonl", row), field))
    assert found["input"] == row[field] and "context_hash" in found


def test_the_field_that_is_named_is_the_message(chatting: Any, tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a lazy dog"}], "other": "a quick fox"}
    path = write(tmp_path / "chat.jsonl", row)
    alone, named, own = (
        list(chat(chatting, inputs, max_tokens=8))
        for inputs in (["a quick fox"], read_inputs(path, "other"), read_inputs(path))
    )
    assert alone == named and named[0]["input"] != own[0]["input"] == "a lazy dog"


def test_samples_and_files_side_by_side_are_read_as_everywhere(tmp_path: Path) -> None:
    assert next(read_inputs("sample:zh-news")).text == "迈向充满希望的新世纪——一九九八年新年讲话（附图片１张）"
    (tmp_path / "t.en").write_text("fox\n")
    (tmp_path / "t.de").write_text("Fuchs\n")
    (row,) = read_inputs(f"{tmp_path}/t.{{en,de}}", "de")
    assert (row.text, row.fields) == ("Fuchs", {"en": "fox"})
    with pytest.raises(UserError, match="name the one file to answer from"):
        read_context("sample:zh-news")


def test_a_missing_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing.txt: no such file or folder"):
        read_inputs(str(tmp_path / "nothing.txt"))


@pytest.mark.parametrize("content", ["a line of mine", '{"text": "a"}\n{"text": "b"}', '{"text": "a"}\n'])
def test_a_file_of_somebody_else_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match="made-by.json is missing"):
        ResultFile(path, resume=True).made_by(MAKER)
    assert path.read_text() == content and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("whole", ["", '{"input": "a"}\n'])
def test_half_a_row_is_cut_off_once_the_file_is_known(tmp_path: Path, whole: str) -> None:
    path = tmp_path / "ours.jsonl"
    ResultFile(path, resume=False).made_by(MAKER)
    path.write_text(f'{whole}{{"inp')
    with pytest.raises(UserError, match='made with task="embed", not "fill"'):
        ResultFile(path, resume=True).made_by({"task": "fill"})
    assert path.read_text() == f'{whole}{{"inp'
    ResultFile(path, resume=True).made_by(MAKER)
    assert path.read_text() == whole


def test_an_answer_from_another_context_is_not_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    document = Document("", "q.jsonl", fields=QUESTION)
    path.write_text(json.dumps({**asked_of(document), "answer": "Alice"}) + "\n")
    results = ResultFile(path, resume=True)
    assert list(results.rest([document], asked_of)) == []
    other = Document("", "q.jsonl", fields={**QUESTION, "context": "Bob met Alice."})
    with pytest.raises(UserError, match="out.jsonl:1: made from another input than q.jsonl:1"):
        list(results.rest([other], asked_of))
