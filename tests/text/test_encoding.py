from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen import text
from yuwen.errors import UserError
from yuwen.text import encoding
from yuwen.text.file import BLOCK
from yuwen.text.problem import _said

SIMPLIFIED = "人民日报的记者说，今天前往北京的人很多。中国的经济在发展，人们的生活也越来越好了。\n" * 20
TRADITIONAL = "這個國家的人民說，我們的生活來得不容易。學生們都在學校裡學習，老師對他們很好。\n" * 20


@pytest.fixture(autouse=True)
def _silence() -> None:
    _said.clear()


def blocks(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(raw) + 1) for cut in cuts} | {0, len(raw)})
    return [raw[a:b] for a, b in zip(places, places[1:], strict=False)]


@given(st.text(), st.lists(st.integers(0, 10_000), max_size=6), st.sampled_from(["utf-8", "utf-16-le", "gb18030"]))
def test_decoding_does_not_depend_on_the_blocks(string: str, cuts: list[int], name: str) -> None:
    decoded = encoding.decode(blocks(string.encode(name), cuts), name)
    assert "".join(decoded) == string.removeprefix("\ufeff")


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from([b"\xff", b"\xc0", b"\x80", b"\xf5"]), st.data())
def test_a_bad_byte_is_named_with_its_line_and_offset(before: str, after: str, bad: bytes, data: st.DataObject) -> None:
    raw = before.encode() + bad + after.encode()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=4))
    found = []
    out = "".join(encoding.decode(blocks(raw, cuts), "utf-8", lambda *place: found.append(place)))
    assert found == [(before.count("\n") + 1, len(before.encode()), bad)]
    assert out == (before + "\ufffd" + after).removeprefix("\ufeff")


def test_the_message_far_into_a_file(tmp_path: Path) -> None:
    raw = "一行字\n".encode() * 300_000
    place = len(raw) // 2 // 10 * 10
    path = tmp_path / "a.txt"
    path.write_bytes(raw[:place] + b"\xb5" + raw[place:])
    with pytest.raises(UserError, match=rf"a.txt:{place // 10 + 1}: byte {place} \(0xb5\) is not UTF-8; .*gb18030"):
        list(text.read(str(path)))
    counts: Counter[str] = Counter()
    assert sum(part.text.count("\ufffd") for part in text.read(str(path), errors=counts)) == 1
    assert counts == {"bad byte": 1}


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-32"])
def test_marked_files_are_read_as_marked(tmp_path: Path, name: str) -> None:
    for suffix, content in ((".txt", SIMPLIFIED), (".jsonl", '{"text": "语文"}\n'), (".json", '[{"text": "语文"}]')):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content.encode(name))
        (document,) = text.read(str(path))
        assert document.text == (SIMPLIFIED if suffix == ".txt" else "语文")


@pytest.mark.parametrize(
    ("name", "content"),
    [("gb18030", SIMPLIFIED), ("big5", TRADITIONAL), ("utf-16-le", SIMPLIFIED), ("utf-16-be", SIMPLIFIED)],
)
def test_told_encodings(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content.encode(name))
    (document,) = text.read(str(path), encoding=name)
    assert document.text == content
    with pytest.raises(UserError, match=r"is not UTF-8; is it really utf-8\?|binary file, .*data.encoding=utf-16"):
        list(text.read(str(path), encoding="utf-8"))


@pytest.mark.parametrize(("name", "content"), [("gb18030", SIMPLIFIED), ("big5", TRADITIONAL)])
def test_certain_encodings_are_converted_and_named_once(
    tmp_path: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"plain ASCII first\n" * 60_000 + content.encode(name))
    for _ in range(2):
        assert "".join(part.text for part in text.read(str(path))) == "plain ASCII first\n" * 60_000 + content
    assert capsys.readouterr().err == f"yuwen: {path}: not UTF-8, read as {name.upper()}, which it certainly is\n"
    assert text.check(str(path)).encodings == {name: 1}


@pytest.mark.parametrize(("name", "content"), [("gb18030", SIMPLIFIED), ("big5", TRADITIONAL)])
def test_a_character_cut_by_the_edge_of_a_block(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * (BLOCK - 1) + content.encode(name))
    assert "".join(part.text for part in text.read(str(path))) == "a" * (BLOCK - 1) + content


@pytest.mark.parametrize(
    "raw",
    [
        "Übergrößen für Ästheten: ein schöner Füller.\n".encode("latin-1") * 30,
        "日本語の文章です。東京は日本の首都であり、世界で最も人口の多い都市です。\n".encode("euc-jp") * 30,
        "日本語の文章です。東京は日本の首都であり、世界で最も人口の多い都市です。\n".encode("shift-jis") * 30,
        "한국어 문장입니다. 서울은 대한민국의 수도이며 가장 큰 도시입니다.\n".encode("euc-kr") * 30,
        "Это русский текст, который не китайский.\n".encode("cp1251") * 30,
        SIMPLIFIED.encode()[:400] + SIMPLIFIED.encode("gb18030"),
        "café\n".encode() + SIMPLIFIED.encode("gb18030"),
        SIMPLIFIED.encode("gb18030") + b"\xff",
    ],
    ids=["latin-1", "euc-jp", "shift-jis", "euc-kr", "cp1251", "mixed", "after UTF-8", "broken"],
)
def test_what_is_not_certain_is_an_error(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"is not UTF-8; save it as UTF-8, or name its encoding"):
        list(text.read(str(path)))


def test_real_chinese_is_recognised_and_utf8_never_misread(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for line in (shared / "data/thucnews10/dev.txt").read_text().split("\n")[:300:10]:
        raw = (line + "\n").encode()
        path.write_bytes(raw)
        assert [document.text for document in text.read(str(path))] == [raw.decode()]
    news = (shared / "data/chnsenticorp/dev.tsv").read_text()[20:].encode("gb18030")
    assert encoding.certain(lambda: [news]) == "gb18030"


def test_marks_are_those_of_the_codecs_module() -> None:
    assert encoding.marked(codecs.BOM_UTF16_BE + b"x") == "utf-16-be" and encoding.marked(b"x") is None
    assert encoding.marked(codecs.BOM_UTF32_LE) == "utf-32-le" and encoding.marked(codecs.BOM_UTF32_BE) == "utf-32-be"
