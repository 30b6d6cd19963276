from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen import text
from yuwen.errors import UserError
from yuwen.text.readers import plain
from yuwen.text.readers.columns import join


class Blocks:
    """A file whose blocks are given."""

    name = "memory"

    def __init__(self, blocks: list[str]) -> None:
        self._blocks = blocks

    def text(self) -> list[str]:
        return self._blocks


@given(st.lists(st.text(alphabet="ab语 \n\r\t\u3000", min_size=1, max_size=12), max_size=12))
def test_parts_join_to_the_file_and_begin_after_line_breaks(blocks: list[str]) -> None:
    parts = list(plain.read(Blocks(blocks)))
    whole = "".join(blocks)
    assert "".join(part.text for part in parts) == whole
    assert [part.closing for part in parts] == ["none"] * (len(parts) - 1) + ["end"] * bool(parts)
    place = 0
    for part in parts:
        assert part.text and part.line == whole.count("\n", 0, place) + 1
        assert not place or (whole[place - 1] == "\n" and not whole[place].isspace())
        place += len(part.text)


def test_small_files_are_one_document_and_large_ones_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one line\n\n" * 50_000)
    (document,) = text.read(str(path))
    assert document.closing == "end" and document.source == str(path)
    path.write_bytes("床前明月光，\r\n\n\t 疑是地上霜。\n".encode() * 100_000)
    parts = list(text.read(str(path)))
    assert "".join(part.text for part in parts).encode() == path.read_bytes()
    assert len(parts) > 3 and all(len(part.text.encode()) <= 1 << 20 for part in parts)
    path.write_text("x" * 40_000_000)  # nowhere to cut: memory stays bounded all the same
    assert sum(len(part.text) for part in text.read(str(path))) == 40_000_000


def write(path: Path, content: str) -> str:
    path.write_text(content, encoding="utf-8", newline="")
    return str(path)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")), min_size=2, max_size=2),
        max_size=5,
    )
)
def test_csv_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["label", "text"], *rows])
    try:
        read = [[document.fields["label"], document.text] for document in text.read(str(path))]
    except UserError as error:
        assert not rows and "is empty" in str(error)
        read = []
    assert read == rows


def test_csv_rows_know_their_lines_and_tsv_takes_quotes_as_text(tmp_path: Path) -> None:
    rows = list(text.read(write(tmp_path / "a.csv", 'text,label\r\n"a\nb ""c""",1\r\n\r\nd,2\r\n')))
    assert [(row.text, row.line, row.fields) for row in rows] == [
        ('a\nb "c"', 2, {"label": "1"}),
        ("d", 5, {"label": "2"}),
    ]
    rows = list(text.read(write(tmp_path / "a.tsv", 'label\tsentence\n1\t"quoted" x"\n')))
    assert [(row.text, row.fields) for row in rows] == [('"quoted" x"', {"label": "1"})]


def test_tables_without_a_header(tmp_path: Path) -> None:
    rows = list(text.read(write(tmp_path / "a.tsv", "a stirring film\t1\ndull\t0\n")))
    assert [(row.text, row.line, row.fields) for row in rows] == [
        ("a stirring film", 1, {"2": "1"}),
        ("dull", 2, {"2": "0"}),
    ]
    path = write(tmp_path / "b.csv", '"3","Title","Some text"\n"4","Other","More text"\n')
    with pytest.raises(UserError, match=r"b.csv:1:text: no such field; the row has 1, 2, 3; .*data.field=3"):
        list(text.read(path))
    assert [row.text for row in text.read(path, field="3")] == ["Some text", "More text"]
    path = write(tmp_path / "c.csv", ",more,less\n0,a b,c d\n1,e f,g h\n")  # a column of numbers under no number
    assert [row.text for row in text.read(path, field="less")] == ["c d", "g h"]


def test_the_text_field(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"title": "t", "body": "b", "content": "c"}\n')
    (row,) = text.read(path)
    assert (row.text, row.fields) == ("c", {"title": "t", "body": "b"})
    assert [row.text for row in text.read(path, field="title")] == ["t"]
    with pytest.raises(UserError, match="a.jsonl:1:titel: no such field; the row has title, body, content; "):
        list(text.read(path, field="titel"))
    path = write(tmp_path / "b.jsonl", '"plain"\n["only", 3]\n{"paragraphs": ["春眠", "不觉晓"]}\n')
    assert [row.text for row in text.read(path)] == ["plain", "only", "春眠\n不觉晓"]


USER, ASSISTANT = {"role": "user", "content": "你好"}, {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"messages": [USER, ASSISTANT]}, [USER, ASSISTANT]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "你好"}]}]}, [USER]),
        ({"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "hello"}]}, [USER, ASSISTANT]),
        (
            {"system": "s", "conversations": [{"from": "human", "value": "你好"}]},
            [{"role": "system", "content": "s"}, USER],
        ),
        ({"instruction": "你好", "input": "", "output": "hello"}, [USER, ASSISTANT]),
        ({"instruction": "你", "input": "好", "output": "hello"}, [{"role": "user", "content": "你\n好"}, ASSISTANT]),
        (
            {"instruction": "你好", "output": "hello", "history": [["你好", "hello"]]},
            [USER, ASSISTANT, USER, ASSISTANT],
        ),
    ],
)
def test_conversations_of_every_shape_become_messages(tmp_path: Path, row: dict, messages: list) -> None:
    (document,) = text.read(write(tmp_path / "a.jsonl", json.dumps({**row, "id": 7})))
    assert document.fields == {"id": 7, "messages": messages}
    assert document.text == "\n".join(message["content"] for message in messages)


def test_squad_nested_and_flat(tmp_path: Path) -> None:
    answers = [{"text": "b", "answer_start": 2}]
    nested = {
        "data": [
            {
                "title": "T",
                "paragraphs": [{"context": "a b", "qas": [{"id": "1", "question": "q?", "answers": answers}]}],
            }
        ]
    }
    (one,) = text.read(write(tmp_path / "a.json", json.dumps(nested)))
    flat = {
        "context": "a b",
        "question": "q?",
        "answers": {"text": ["b"], "answer_start": [2]},
        "id": "1",
        "title": "T",
    }
    (two,) = text.read(write(tmp_path / "b.jsonl", json.dumps(flat)))
    assert one.text == two.text == "a b\nq?"
    assert one.fields == two.fields == {"context": "a b", "question": "q?", "answers": answers, "id": "1", "title": "T"}
    with pytest.raises(UserError, match="c.jsonl:1:answers: an answer without text or answer_start"):
        list(text.read(write(tmp_path / "c.jsonl", json.dumps({**flat, "answers": [{}]}))))


def test_a_question_without_answers(tmp_path: Path) -> None:
    """Nobody has answered it yet; a text of the row's own is still its text."""
    row = {"context": "a b", "question": "q?"}
    own = {**row, "text": "t"}
    one, two = text.read(write(tmp_path / "a.jsonl", f"{json.dumps(row)}\n{json.dumps(own)}\n"))
    assert (one.text, one.fields) == ("a b\nq?", {**row, "answers": []})
    assert (two.text, two.fields) == ("t", row)
    with pytest.raises(UserError, match="b.jsonl:1:question: is null, not a string"):
        list(text.read(write(tmp_path / "b.jsonl", json.dumps({**row, "question": None}))))


def test_columns_are_recognised_by_content(tmp_path: Path) -> None:
    rows = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ B-VP O\n\nGerman JJ B-NP B-MISC\n. . O O"
    one, two = text.read(write(tmp_path / "a.txt", rows))
    assert (one.text, one.line, one.fields) == ("EU rejects", 3, {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]})
    assert (two.text, two.line, two.closing) == ("German .", 6, "end")
    (one,) = text.read(write(tmp_path / "b.train", "科0\tO\n技1\tO\n北0\tB-LOC\n京1\tI-LOC\n\n"))
    assert (one.text, one.fields["tokens"]) == ("科技北京", ["科", "技", "北", "京"])
    (plain,) = text.read(write(tmp_path / "c.txt", "Vitamin B\nType O\n\nplan B\n"))
    assert plain.fields == {}
    assert join(["我", "用", "Python", "3", "，", "ok"]) == "我用Python 3，ok"


def test_parquet(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["一", "二"] * 1500, "messages_n": [[1, 2]] * 3000})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    rows = list(text.read(str(tmp_path / "a.parquet")))
    assert [row.text for row in rows] == ["一", "二"] * 1500
    assert (rows[2999].line, rows[0].fields) == (3000, {"messages_n": [1, 2]})


def test_a_parquet_value_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["一"], "day": pyarrow.array([10**8], pyarrow.date32())})  # in the year 275,000
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet:1: not readable as Parquet"):
        list(text.read(str(tmp_path / "a.parquet")))


def test_objects_that_hold_lists_of_rows(tmp_path: Path) -> None:
    rows = list(text.read(write(tmp_path / "a.json", '{"x": [{"text": "a"}], "y": [{"text": "b"}], "version": 1}')))
    assert [(row.text, row.fields) for row in rows] == [("a", {"group": "x"}), ("b", {"group": "y"})]
    (row,) = text.read(write(tmp_path / "b.json", '{"text": "a", "tags": [{"t": 1}]}'))
    assert (row.text, row.fields) == ("a", {"tags": [{"t": 1}]})
    rows = list(text.read(write(tmp_path / "c.json", '{"text": "a"}\n{"text": "b"}\n')))  # lines under the wrong name
    assert [(row.text, row.line) for row in rows] == [("a", 1), ("b", 2)]


FIELDS = {  # sets in which the text's column must be named
    "advglue/dev.json": None,  # six tasks of different columns
    "ag_news/test.csv": "3",
    "clinc150/data_small.json": "1",
    "clinc150/domains.json": None,
    "crows_pairs/crows_pairs_anonymized.csv": "sent_more",
    "csl_title/dev.tsv": "2",
    "csl_title/test.tsv": "2",
    "geoquery/geography-schema.csv": None,
    "geoquery/geography.json": "sql",
    "glue/CoLA/dev.tsv": "4",
    "glue/CoLA/train.tsv": "4",
    "glue/MRPC/dev.tsv": "#1 String",
    "glue/MRPC/test.tsv": "#1 String",
    "glue/MRPC/train.tsv": "#1 String",
    "glue/RTE/dev.tsv": "sentence1",
    "glue/RTE/train.tsv": "sentence1",
    "glue/STS-B/dev.tsv": "sentence1",
    "glue/STS-B/train.tsv": "sentence1",
    "glue/WNLI/dev.tsv": "sentence1",
    "glue/WNLI/test.tsv": "sentence1",
    "glue/WNLI/train.tsv": "sentence1",
    "humaneval/HumanEval.jsonl": "prompt",
}
COUNTS = {
    "banking77/train.csv": 10003,
    "banking77/test.csv": 3080,
    "ag_news/test.csv": 7600,
    "waimai_10k/waimai_10k.csv": 11987,
    "chnsenticorp/train.tsv": 9600,
    "sst2/train.tsv": 6920,
    "glue/CoLA/train.tsv": 8551,
    "glue/MRPC/train.tsv": 3667,
    "glue/RTE/train.tsv": 2490,
    "glue/STS-B/train.tsv": 5749,
    "crows_pairs/crows_pairs_anonymized.csv": 1508,
    "cluener/train.json": 10748,
    "clinc150/data_small.json": 16200,
    "weibo_ner/weiboNER_2nd_conll.train": 1350,
    "ncbi_disease/train.tsv": 5424,
    "btc_twitter_ner/e.conll": 200,
    "cmrc2018/cmrc2018_dev.json": 3219,
    "xquad_en/xquad.en.json": 1190,
    "squad_samples/sample.json": 14,
    "quac_sample/quac_sample.json": 12,
    "instructions/alpaca_en_demo.json": 999,
    "humaneval/HumanEval.jsonl": 164,
    "mbpp/mbpp.jsonl": 974,
    "chinese-poetry/poet.tang.0.json": 1000,
}


def test_every_real_set_is_read(shared: Path) -> None:
    """All files of all sets: read whole, or the fault named with what to do about it."""
    wrong = {}
    for path in sorted((shared / "data").rglob("*")):
        name = path.relative_to(shared / "data").as_posix()
        if not path.is_file():
            continue
        field = FIELDS.get(name)
        if name in FIELDS:
            with pytest.raises(UserError, match="no such field; the row has .*; name the text's field"):
                list(text.read(str(path)))
        if name not in FIELDS or field:
            documents = list(text.read(str(path), field=field))
            assert all(isinstance(document.text, str) for document in documents) and documents
            if len(documents) != COUNTS.get(name, len(documents)):
                wrong[name] = len(documents)
            if not documents[0].fields and path.suffix not in (".json", ".gz"):
                assert "".join(document.text for document in documents).encode() == path.read_bytes()
    assert not wrong
