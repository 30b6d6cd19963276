"""Rows out of records: columns by role, faults by place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen.errors import UserError
from yuwen.text import Document, FieldsConfig, Row, check, parse_fields, read, rows

LABELLED = FieldsConfig(text="text", label="label")


def of(source: object, fields: FieldsConfig) -> list[Row]:
    return list(rows(read(str(source), field=fields.first), fields))


def values(found: list[Row]) -> list[tuple[Any, ...]]:
    return [(*row.texts, row.label if row.label is not None else row.score) for row in found]


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("a.jsonl", '{"review": " good ", "stars": 5}\n{"review": "bad", "stars": true}\n', ("review", "stars")),
        ("a.json", '[{"review": "good", "stars": 5}, {"review": "bad", "stars": true}]', ("review", "stars")),
        ("a.csv", 'stars,review\n5,"good"\ntrue,bad\n', ("review", "stars")),
        ("a.tsv", "stars\treview\n5\tgood\ntrue\tbad\n", ("review", "stars")),
        ("a.tsv", "good\t5\nbad\ttrue\n", (1, 2)),
        ("a.txt", "5\t good\ntrue\tbad\n", (2, 1)),
    ],
)
def test_the_same_rows_in_every_format(tmp_path: Path, name: str, content: str, fields: tuple[Any, Any]) -> None:
    (tmp_path / name).write_text(content)
    found = of(tmp_path / name, FieldsConfig(text=fields[0], label=fields[1]))
    assert values(found) == [("good", "5"), ("bad", "true")]
    assert {row.source for row in found} == {str(tmp_path / name)}


def test_rows_of_parquet(tmp_path: Path) -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    parquet.write_table(arrow.table({"a": ["x", "y"], "b": ["u", "v"], "s": [0.5, 2.0]}), tmp_path / "a.parquet")
    found = of(tmp_path / "a.parquet", FieldsConfig(anchor="a", positive="b", score="s"))
    assert values(found) == [("x", "u", 0.5), ("y", "v", 2.0)]


def test_files_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "t.en.gz").write_bytes(gzip.compress(b"one\n\nthree"))
    (tmp_path / "t.de.gz").write_bytes(gzip.compress(b"eins\n\ndrei\n"))
    source = f"{tmp_path}/t.{{en,de}}.gz"
    fields = FieldsConfig(source="de", target="en")
    assert [row.texts for row in of(source, fields)] == [("eins", "one"), ("", ""), ("drei", "three")]
    assert check(source, fields=fields).ok
    (tmp_path / "t.de.gz").write_bytes(gzip.compress(b"eins\n\n"))
    with pytest.raises(UserError, match=r"t\.de\.gz:3: the file ends at line 3, and others .* go on; give files that"):
        of(source, fields)
    assert check(source, fields=fields).found == {"lines": 1}
    (tmp_path / "t.de.gz").unlink()
    with pytest.raises(UserError, match=r"t\.de\.gz: no such file"):
        of(source, fields)
    with pytest.raises(UserError, match="a name stands twice in the braces"):
        of(f"{tmp_path}/t.{{en,en}}.gz", fields)


def test_a_file_may_be_called_with_braces(tmp_path: Path) -> None:
    (tmp_path / "{a,b}.jsonl").write_text('{"text": "x", "label": 1}')
    assert values(of(tmp_path / "{a,b}.jsonl", LABELLED)) == [("x", "1")]


def test_reviews_have_their_polarity() -> None:
    first = next(iter(rows(read("sample:zh-reviews", field="text"), LABELLED)))
    assert first.label == "positive" and first.texts[0].startswith("我正在写这本书的心得")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, r"a\.jsonl:2:label: no such field; beside text the row has no others; set data\.fields\.label"),
        ({"text": "a", "labels": 1}, r"beside text the row has labels"),
        ({"text": "a", "label": None}, r"a\.jsonl:2:label: the label is null, not a word or a whole number; give the"),
        ({"text": "a", "label": 0.5}, "the label is a number, not a word or a whole number"),
        ({"text": "a", "label": " "}, "the label is empty; give the row a label, or remove it"),
        ({"text": 3, "label": 1}, r"a\.jsonl:2:text: the text is a number, not a string"),
        ({"label": 1}, r"a\.jsonl:2:text: no such field"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine", "label": "x"}\n' + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=message):
        of(path, LABELLED)
    report = check(str(path), fields=LABELLED)
    assert sum(report.found.values()) == 1 and report.problems[0].line == 2


@pytest.mark.parametrize("score", ["high", "", None, True, "nan", [1]])
def test_a_score_is_a_number(score: Any) -> None:
    document = Document("a", "f", 7, fields={"b": "c", "s": score})
    with pytest.raises(UserError, match="f:7:s: the score is .*, not a number"):
        list(rows([document], FieldsConfig(anchor="a", positive="b", score="s")))


@given(st.text(), st.text(), st.one_of(st.booleans(), st.integers(), st.text()))
def test_any_value_makes_a_row_or_a_problem(one: str, other: str, label: Any) -> None:
    document = Document(one, "f", fields={"b": other, "l": label})
    problems: list[Any] = []
    found = list(rows([document], FieldsConfig(text="a", pair="b", label="l"), problems.append))
    assert len(found) + len(problems) == 1
    for row in found:
        assert row.texts == (one.strip(), other.strip()) and row.label


def test_a_long_text_is_no_record() -> None:
    with pytest.raises(UserError, match="a part of a long text, which has no fields"):
        list(rows([Document("a", "f", closing="none")], LABELLED))


@pytest.mark.parametrize(
    "fields", [{}, {"pair": "a"}, {"text": "a", "source": "b"}, {"source": "a"}, {"anchor": "a", "negative": "b"}]
)
def test_texts_that_make_no_row(fields: dict[str, str]) -> None:
    with pytest.raises(UserError, match="make no row: give one of: text; text, pair; source, target;"):
        FieldsConfig.parse("data.fields", fields)


def test_fields_on_the_command_line() -> None:
    assert parse_fields("text = review, label=stars") == FieldsConfig(text="review", label="stars")
    with pytest.raises(UserError, match="unknown role txt: did you mean text"):
        parse_fields("txt=review")
    with pytest.raises(UserError, match="write ROLE=COLUMN"):
        parse_fields("review")
    with pytest.raises(UserError, match="a label or a score, not both"):
        parse_fields("text=a,label=b,score=c")
