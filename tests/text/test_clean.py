from __future__ import annotations

import time
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen import text
from yuwen.errors import UserError
from yuwen.text import Cleaner, Document, TextConfig, filters

ODD = st.text(
    st.sampled_from(
        "a é e\u0301\u0338\uac00\u1100\u1161ｱﾞ１字　 \t\n\r\x00\x0b\x85\xa0\xad\u200b\u200d\u2028\ufeff\U0001f600"
    )
)
ANY = st.text() | ODD


@given(ANY, st.sampled_from(["none", "nfc", "nfkc"]), st.sampled_from(["keep", "tidy", "collapse"]), st.booleans())
def test_cleaning_twice_is_cleaning_once(string: str, normalise: Any, whitespace: Any, control: bool) -> None:
    cleaner = Cleaner(TextConfig(normalise=normalise, whitespace=whitespace, control=control))
    once = cleaner.text(string)
    assert cleaner.text(once) == once


@given(ANY)
def test_the_defaults_by_their_definition(string: str) -> None:
    """The fast paths give what the plain definition gives."""
    plain = string.replace("\r\n", "\n")
    for odd in "\r\x0b\x0c\x85\u2028\u2029":
        plain = plain.replace(odd, "\n")
    plain = "".join(" " if unicodedata.category(c) == "Zs" and c not in " \u3000" else c for c in plain)
    removed = "\xad\u200b\u2060\ufeff"
    plain = "".join(c for c in plain if c in "\t\n" or (unicodedata.category(c) != "Cc" and c not in removed))
    assert Cleaner().text(string) == unicodedata.normalize("NFC", plain)


@given(st.lists(st.text(alphabet="é e\u0301ab语\n"), max_size=4))
def test_long_texts_are_normalised_like_short_ones(strings: list[str]) -> None:
    long = "\n".join([*strings, "字" * 5000])
    assert Cleaner().text(long) == unicodedata.normalize("NFC", long)


@pytest.mark.parametrize(
    "good",
    [
        "　　中文段落，有全角空格缩进：“引号”、《书名》——破折号……\n\n\n第二段。\n",
        "def f(x):\n\treturn x  # two spaces\n",
        "👩‍👩‍👧 emoji joined, e.g. naïve café, Привет, عربى, 한국어, １９９８\n",
        "",
    ],
)
def test_good_documents_pass_as_the_same_object(good: str) -> None:
    document = Document(good, "memory", fields={"label": 1})
    cleaner = Cleaner(TextConfig(minimum_characters=0))
    assert cleaner.clean(document) is document and not cleaner.reasons


def test_the_rest_of_a_document_stays() -> None:
    document = Document("a\r\nb\x00", "memory", 7, "line", {"label": 1})
    assert Cleaner().clean(document) == Document("a\nb", "memory", 7, "line", {"label": 1})


@pytest.mark.parametrize(
    ("settings", "string", "expected"),
    [
        ({"normalise": "nfkc"}, "１９９８年Ａ", "1998年A"),
        ({"normalise": "none"}, "e\u0301", "e\u0301"),
        ({"whitespace": "keep"}, "a\r\n\xa0b", "a\r\n\xa0b"),
        ({"whitespace": "keep"}, "a\x00b", "ab"),
        ({"control": False}, "a\x00\xa0b", "a\x00 b"),
        ({"whitespace": "collapse"}, "  a \t b \n\n\n\n 　c\n", "a b\n\nc"),
        ({"simplify": True}, "漢語的後來與頭髮", "汉语的后来与头发"),
        ({"html": True}, "a &amp; b", "a & b"),
    ],
)
def test_settings(settings: dict[str, Any], string: str, expected: str) -> None:
    assert Cleaner(TextConfig(**settings)).text(string) == expected


def test_a_part_keeps_the_line_breaks_at_its_end() -> None:
    cleaner = Cleaner(TextConfig(whitespace="collapse"))
    assert cleaner.clean(Document("a \n\n\n\n", "memory", closing="none")).text == "a\n\n"
    assert cleaner.clean(Document("a \n\n\n\n", "memory")).text == "a"


def test_html_becomes_readable_text() -> None:
    page = (
        "<html><head><title>T</title><script>var x = 1;</script></head><body><nav><a href='/'>Home</a></nav>"
        "<article><h1>标题</h1><p>第一段有足够的文字，讲的是语言。</p>"
        "<p>Second paragraph &amp; more words here.</p></article></body></html>"
    )
    out = Cleaner(TextConfig(html=True)).text(page)
    assert "第一段有足够的文字，讲的是语言。" in out and "Second paragraph & more words here." in out
    assert "var x" not in out and "<" not in out
    assert Cleaner(TextConfig(html=True)).text("很好<br/>吃") == "很好\n吃"


@pytest.mark.parametrize(
    ("settings", "string", "reason"),
    [
        ({}, " \n\x00", "empty"),
        ({"minimum_characters": 5}, "abcd", "too short"),
        ({"maximum_characters": 3}, "abcd", "too long"),
        ({"maximum_symbols": 0.3}, "ab@@##", "too many symbols"),
        ({"maximum_repeated_lines": 0.3}, "a\na\nb\na\n", "too many repeated lines"),
        ({"maximum_repeated_characters": 0.2}, "好好好好好好的", "too many repeated characters"),
    ],
)
def test_what_is_dropped_is_counted_with_its_reason(settings: dict[str, Any], string: str, reason: str) -> None:
    cleaner = Cleaner(TextConfig(**settings))
    assert cleaner.clean(Document(string, "memory")) is None
    assert cleaner.reasons == {reason: 1}


def test_good_text_passes_the_rules_of_gopher(shared: Any) -> None:
    config = TextConfig(maximum_symbols=0.1, maximum_repeated_lines=0.3, maximum_repeated_characters=0.2)
    cleaner = Cleaner(config)
    kept = [cleaner.clean(document) for document in text.read(str(shared / "data/cmrc2018/cmrc2018_trial.json"))]
    assert None not in kept


def test_shares() -> None:
    assert filters.symbols("ab@#") == 0.5 and filters.symbols("中文，。") == 0 == filters.symbols("")
    assert filters.symbols("हिन्दी") == 0 == filters.symbols("ที่นี่")  # vowels and tones are marks of their letters
    assert filters.repeated_lines("a\n a\n\nb") == pytest.approx(1 / 3) and filters.repeated_lines("\n") == 0
    assert filters.repeated_characters("aaaaab") == pytest.approx(5 / 6) and filters.repeated_characters("") == 0


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(UserError, match=r"unknown key text\.simplfy: did you mean simplify\?"):
        TextConfig.parse("text", {"simplfy": True})
    with pytest.raises(UserError, match="text.maximum_symbols"):
        TextConfig.parse("text", {"maximum_symbols": 2})


@pytest.mark.parametrize("unit", ["Ordinary ASCII text, as it is.\n", "普通的中文文本，没有什么特别。\n"])
def test_ordinary_text_is_cleaned_fast(unit: str) -> None:
    """A loose floor (measured: 200 to 2000 MB/s), so that a lost fast path is noticed."""
    documents = [Document(unit * 10, "memory") for _ in range(20_000)]
    size = sum(len(document.text.encode()) for document in documents[:1]) * len(documents)
    cleaner = Cleaner()
    times = []
    for _ in range(3):
        start = time.process_time()
        for document in documents:
            cleaner.clean(document)
        times.append(time.process_time() - start)
    assert size / min(times) > 50e6
