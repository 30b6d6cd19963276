from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen import text
from yuwen.text.stats import QUANTILES, Lengths, script


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(), min_size=1, max_size=8))
def test_figures_by_their_definition(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("stats") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": string}) + "\n" for string in texts))
    found, whole = text.stats(str(path)), "".join(texts)
    assert (found.documents, found.characters, found.bytes) == (len(texts), len(whole), len(whole.encode()))
    assert found.duplicates == pytest.approx(1 - len(set(texts)) / len(texts))
    assert sum(found.scripts.values()) == pytest.approx(float(bool(whole)))
    visible = Counter(character for character in whole if not character.isspace())
    assert list(found.common.values()) == [pytest.approx(n / len(whole)) for _, n in visible.most_common(20)]
    assert all(found.common[c] == pytest.approx(visible[c] / len(whole)) for c in found.common)
    assert found.length_quantiles["0"] == min(map(len, texts)) and found.length_quantiles["100"] == max(map(len, texts))
    json.dumps(found.as_dict())


@given(st.lists(st.integers(0, 10**7), min_size=1))
def test_quantiles_are_true_within_a_hundredth(lengths: list[int]) -> None:
    histogram, ordered = Lengths(), sorted(lengths)
    for length in lengths:
        histogram.add(length)
    for percent in QUANTILES:
        exact = ordered[max(0, -(-percent * len(ordered) // 100) - 1)]
        assert exact * 0.99 - 1 <= histogram.quantile(percent / 100) <= exact * 1.01 + 1


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("语", "Han"),
        ("〇", "Han"),
        ("々", "Han"),
        ("𠮷", "Han"),
        ("a", "Latin"),
        ("é", "Latin"),
        ("Ａ", "Latin"),
        ("あ", "Hiragana"),
    ]
    + [("7", "digits"), ("７", "digits"), ("，", "punctuation"), ("+", "symbols"), ("　", "space"), ("\n", "space")]
    + [("я", "Cyrillic"), ("\0", "control"), ("한", "Hangul"), ("😀", "symbols"), ("\u0301", "Combining")],
)
def test_scripts(character: str, name: str) -> None:
    assert script(character) == name


def test_real_text(shared: Path) -> None:
    found = text.stats("sample:zh-news")
    assert found.documents == 19484 and found.scripts["Han"] > 0.8 and next(iter(found.common)) in "，的"
    assert text.stats(str(shared / "data/tinyshakespeare/input.txt")).documents == 1
