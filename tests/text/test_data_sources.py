from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen import text
from yuwen.errors import UserError


def test_a_folder_is_read_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("part10.txt", "part2.txt", "sub/part1.txt", ".hidden.txt", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = [path.relative_to(tmp_path).as_posix() for path in text.discover(str(tmp_path))]
    assert found == ["part2.txt", "part10.txt", "sub/part1.txt"]
    assert [document.text for document in text.read(str(tmp_path))] == found


def test_globs(tmp_path: Path) -> None:
    for name in ("a1.txt", "a10.txt", "a9.txt", "b.json", "deep/er/c.txt", ".a2.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("x")
    assert [path.name for path in text.discover(f"{tmp_path}/*.txt")] == ["a1.txt", "a9.txt", "a10.txt"]
    assert [path.name for path in text.discover(f"{tmp_path}/**/*.txt")] == ["a1.txt", "a9.txt", "a10.txt", "c.txt"]


def test_a_name_with_brackets_is_a_name_before_it_is_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("x")
    assert [path.name for path in text.discover(f"{tmp_path}/a[1].txt")] == ["a[1].txt"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_files_read_like_plain_ones(tmp_path: Path, pack: object) -> None:
    rows = [{"text": f"语文 {i}"} for i in range(1000)]
    raw = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = tmp_path / ("a.jsonl.gz" if pack is gzip.compress else "a.jsonl.zst")
    path.write_bytes(pack(raw[:5000]) + pack(raw[5000:]))  # two members, as made by appending
    assert [document.text for document in text.read(str(path))] == [row["text"] for row in rows]
    path.write_bytes(pack(raw)[:-20])
    with pytest.raises(UserError, match="damaged compressed file"):
        list(text.read(str(path)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", r"empty.txt: is empty; name a file with text"),
        ("blank.jsonl", b"\n \n", r"blank.jsonl: is empty"),
        ("empty.json", b"", r"empty.json: is empty"),
        ("empty.csv", b"", r"empty.csv: is empty"),
        ("list.json", b"[]", r"list.json: is empty"),
        ("list.json", b"[\n]\n", r"list.json: is empty"),
        ("list.json", b"[]]", r"text after the end of the array"),
        ("photo.txt", b"abc\0def", r"photo.txt: a binary file"),
        ("photo.jsonl", b"\x89PNG\r\n", r"photo.jsonl: a binary file"),
        (
            "bad.txt",
            "语文\n语".encode() + b"\xff" + b"x",
            r"bad.txt:2: byte 10 \(0xff\) is not UTF-8; save it as UTF-8, or",
        ),
        ("cut.txt", "语文".encode()[:-1], r"cut.txt:1: byte 3 \(0xe696\) is not UTF-8"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', r"bad.jsonl:2: not JSON: expecting value \(column 10\); mend"),
        ("bad.json", b'[{"text": "a"},\n {"text" 1}]', r"bad.json:2: not JSON: expecting ':' delimiter"),
        ("cut.json", b'[{"text": "a"},\n {"text": "b', r"cut.json:2: not JSON: unterminated string"),
        ("open.json", b'[{"text": "a"}\n', r"open.json:2: not JSON: the file ends where , or \] was expected"),
        ("more.json", b'[{"text": "a"}]\nx', r"more.json:2: not JSON: text after the end"),
        ("bad2.json", b'{"text": "a"', r"bad2.json:1: not JSON: expecting ',' delimiter"),
        ("deep.jsonl", b"[" * 100_000, r"deep.jsonl:1: not JSON: nested too deeply"),
        (
            "field.jsonl",
            b'{"titel": "a"}',
            r"field.jsonl:1:text: no such field; the row has titel; name the text's field",
        ),
        ("type.jsonl", b'{"text": 3}', r"type.jsonl:1:text: the text is a number, not a string; quote it"),
        ("null.jsonl", b'{"text": null}', r"null.jsonl:1:text: the text is null; give it a text"),
        ("row.jsonl", b"3", r"row.jsonl:1: the row is a number, not an object; write it as"),
        ("half.jsonl", b'{"text": "a\\ud83d"}', r"half.jsonl:1:text: character 1 is half of a surrogate pair"),
        ("role.jsonl", b'{"messages": [{"role": "me", "content": "a"}]}', r"role.jsonl:1:messages: unknown role 'me'"),
        ("turn.jsonl", b'{"messages": [{"role": "user"}]}', r"turn.jsonl:1:messages: a message without content"),
        ("none.jsonl", b'{"messages": []}', r"none.jsonl:1:messages: the conversation is empty"),
        ("quote.csv", b'text,n\n"a"b,1\n', r"quote.csv:2: not CSV: "),
        ("ragged.csv", b"text,n\na,1\nb\n", r"ragged.csv:3: the row has 1 columns, not 2"),
        ("ragged.tsv", b"text\tn\na\t1\nb\t1\t2\n", r"ragged.tsv:3: the row has 3 columns, not 2"),
        ("excel.csv", b"text;label\na;1\nb;0\n", r"excel.csv:1: one column, with .* semicolons in each row: .*commas"),
        ("tabs.csv", b"text\tlabel\na\t1\n", r"tabs.csv:1: one column, with .* tabs in each row: .*as .tsv"),
        ("bad.parquet", b"PAR1 and no more", r"bad.parquet:1: not readable as Parquet"),
        ("tags.conll", b"a\tO\n" * 9 + b"\nc O\tO\nd\n", r"tags.conll:12: the row has 1 columns, not 2"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(text.read(str(path)))
    assert "\n" not in str(caught.value)
    counts: Counter[str] = Counter()
    list(text.read(str(path), errors=counts))  # the same, counted instead
    assert counts.total() >= 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing.txt", "nothing.txt: no such file or folder; check the path"),
        ("*.nothing", "no file matches"),
        ("sample:zh-new", "no such sample; did you mean zh-news?"),
    ],
)
def test_missing_sources(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for function in (text.read, text.discover, text.check, text.stats):
        with pytest.raises(UserError, match=message.replace("?", r"\?").replace("*", r"\*")):
            function(source)


def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("x")
    with pytest.raises(UserError, match=r"did you mean .*corpus\.txt\?"):
        text.read(str(tmp_path / "copus.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder holds no files"):
        text.read(str(tmp_path / "empty"))


def test_linked_folders_are_read_and_loops_end(tmp_path: Path) -> None:
    for name in ("corpus/en/a.txt", "elsewhere/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name[-5], encoding="utf-8")
    (tmp_path / "corpus" / "zh").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "corpus", target_is_directory=True)
    assert [document.text for document in text.read(str(tmp_path / "corpus"))] == ["a", "b"]


def test_empty_files_in_a_folder_are_no_error_unless_all_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(UserError, match="none of its 2 files holds any text"):
        list(text.read(str(tmp_path)))
    (tmp_path / "c.txt").write_text("x")
    assert [document.text for document in text.read(str(tmp_path))] == ["x"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(UserError, match=r"a.txt: cannot be read: Permission denied; give yourself the right"):
        list(text.read(str(path)))


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="data.field=body means nothing here: the file is plain text"):
        list(text.read(str(tmp_path / "a.txt"), field="body"))
    with pytest.raises(UserError, match="means nothing for a sample"):
        text.read("sample:zh-news", field="body")
    with pytest.raises(UserError, match="means nothing for a sample"):
        text.read("sample:zh-news", encoding="big5")
    with pytest.raises(UserError, match="data.encoding=utf-99: no such encoding"):
        text.read(str(tmp_path / "a.txt"), encoding="utf-99")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
ROWS = st.lists(st.fixed_dictionaries({"text": st.text(), "extra": JSON}), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.booleans(), st.sampled_from([None, 1]), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_json_of_any_characters_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict], ascii: bool, indent: int | None, end: str
) -> None:
    folder = tmp_path_factory.mktemp("json")
    lines = end.join(json.dumps(row, ensure_ascii=ascii) for row in rows)
    (folder / "a.jsonl").write_text(lines, encoding="utf-8", newline="")
    (folder / "b.json").write_text(json.dumps(rows, ensure_ascii=ascii, indent=indent), encoding="utf-8")
    (folder / "c.json").write_text(json.dumps({"rows": rows}, ensure_ascii=ascii, indent=indent), encoding="utf-8")
    for name in ("a.jsonl", "b.json", "c.json"):
        read = list(text.read(str(folder / name)))
        assert [(document.text, document.fields) for document in read] == [
            (r["text"], {"extra": r["extra"]}) for r in rows
        ]


def test_large_arrays_stream_and_know_their_lines(tmp_path: Path) -> None:
    rows = [{"text": "语文" * (i % 4000), "n": i} for i in range(700)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=0))  # four lines a row
    read = list(text.read(str(path)))
    assert [(document.text, document.line) for document in read] == [(row["text"], 2 + 4 * row["n"]) for row in rows]
    path.write_text(json.dumps(rows))  # and all of it in one line
    assert [document.text for document in text.read(str(path))] == [row["text"] for row in rows]


def test_reading_a_long_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for i in range(30):
            file.write(json.dumps({"text": f"{i} " + "x" * 2_000_000}) + "\n")
    program = (
        "import sys; from yuwen import text; from yuwen.app.machine.resources import peak_memory\n"
        "before = peak_memory()\n"
        "print(text.check(sys.argv[1]).documents, (peak_memory() - before) >> 20)"
    )
    out = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True).stdout
    documents, mebibytes = map(int, out.split())
    assert documents == 30 and mebibytes < 60
