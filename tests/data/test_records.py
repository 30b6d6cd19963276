"""Rows on disk: what is kept, what is dropped, what is cached, and the real files that recipes name."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_corpora import memory
from hypothesis import given
from hypothesis import strategies as st

from yuwen.data import RAW, Corpus, RowShards, corpus, field_texts, prepare_rows, split
from yuwen.errors import UserError
from yuwen.text import Document, FieldsConfig, TextConfig
from yuwen.text.samples import paths
from yuwen.tokens import Tokenizer

TEXT = FieldsConfig(text="text", label="label")


def labelled(*rows: tuple[str, str]) -> Corpus:
    return memory([Document(text, "m", n, fields={"label": label}) for n, (text, label) in enumerate(rows, 1)])


def decoded(shards: RowShards, tokenizer: Tokenizer) -> list[tuple[Any, ...]]:
    names = [None] * len(shards) if shards.labels is None else [shards.meta.labels[n] for n in shards.labels]
    texts = [
        tuple(tokenizer.decode(shards.text(row, place, 10**6)) for place in range(len(shards.fields)))
        for row in range(len(shards))
    ]
    return [(*text, name) for text, name in zip(texts, names, strict=True)]


@pytest.fixture
def rows_of(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., RowShards]:
    def make(documents: Corpus, fields: FieldsConfig = TEXT, **settings: Any) -> RowShards:
        return prepare_rows(documents, fields, tokenizer, tmp_path / "cache", **settings)

    return make


def test_rows_come_back(rows_of: Callable[..., RowShards], tokenizer: Tokenizer) -> None:
    shards = rows_of(labelled(("语文很好。", "b"), ("Good\r\nmorning ", "a"), ("ab", "b")))
    assert decoded(shards, tokenizer) == [("语文很好。", "b"), ("Good\nmorning", "a"), ("ab", "b")]
    assert shards.meta.labels == ["a", "b"]
    assert shards.lengths.sum() == shards.meta.tokens == len(shards.tokens)
    assert shards.meta.bytes == sum(len(text.encode()) for text in ("语文很好。", "Good\nmorning", "ab"))


def test_a_class_without_a_row_is_none(rows_of: Callable[..., RowShards]) -> None:
    assert rows_of(labelled(("a", "x"), ("\u200b", "spam"), ("b", "y"))).meta.labels == ["x", "y"]


def test_a_class_whose_rows_contradict_others_is_none(rows_of: Callable[..., RowShards]) -> None:
    torn = labelled(("a", "x"), ("c", "y"), ("b", "x"), ("b", "spam"))
    shards = rows_of(torn)
    assert shards.meta.labels == ["x", "y"] and shards.labels is not None and shards.labels.tolist() == [0, 1]
    assert rows_of(torn, deduplicate=False).meta.labels == ["spam", "x", "y"]
    assert rows_of(torn, labels=["y", "x", "spam"]).meta.labels == ["y", "x", "spam"]  # as a model knows them


def test_labels_that_nobody_reads_are_none(rows_of: Callable[..., RowShards]) -> None:
    """A classifier's classes are known, but the fields name no label: rows without one, not a damaged folder."""
    for _ in range(2):
        shards = rows_of(labelled(("a", "x"), ("b", "y")), FieldsConfig(text="text"), labels=["x", "y"])
        assert shards.labels is None and shards.meta.labels == []


def test_half_a_character_is_no_label(rows_of: Callable[..., RowShards]) -> None:
    with pytest.raises(UserError, match="m:1:label: character 0 is half of a surrogate pair"):
        rows_of(labelled(("a", "\ud83d")))


def test_copies_go_and_so_do_contradictions(rows_of: Callable[..., RowShards], tokenizer: Tokenizer) -> None:
    rows = [("a", "1"), ("b", "1"), (" a", "1"), ("c", "0"), ("b", "0"), ("\u200b", "0"), ("c", "0"), ("b", "1")]
    shards = rows_of(labelled(*rows))
    assert decoded(shards, tokenizer) == [("a", "1"), ("c", "0")]
    assert shards.meta.dropped == {"contradictory": 3, "duplicate": 2, "empty": 1}
    kept = rows_of(labelled(*rows), deduplicate=False)
    assert [text for text, _ in decoded(kept, tokenizer)] == ["a", "b", "a", "c", "b", "c", "b"]


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("01")), min_size=1, max_size=20))
def test_what_is_distinct(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    cache, seen = tmp_path_factory.mktemp("cache"), defaultdict(set)
    for text, label in rows:
        seen[text].add(label)
    expected = [(text, *labels) for text, labels in seen.items() if len(labels) == 1]
    if not expected:
        with pytest.raises(UserError, match=r"no row is left to prepare \(\d+ contradictory"):
            prepare_rows(labelled(*rows), TEXT, tokenizer, cache)
        return
    assert decoded(prepare_rows(labelled(*rows), TEXT, tokenizer, cache), tokenizer) == expected


def test_what_is_also_in_validation_is_not_learnt(rows_of: Callable[..., RowShards], tokenizer: Tokenizer) -> None:
    train, valid = labelled(("a\u00a0b", "1"), ("c", "0")), labelled(("a b", "0"))
    shards = rows_of(train, exclude=valid)
    assert decoded(shards, tokenizer) == [("c", "0")]
    assert shards.meta.dropped == {"also in validation": 1}


def test_what_is_measured_stays_as_it_is(rows_of: Callable[..., RowShards], tokenizer: Tokenizer) -> None:
    train = rows_of(labelled(("x", "yes"), ("y", "no")))
    valid = rows_of(
        labelled(("a\u00a0b", "yes"), ("a\u00a0b", "yes")), text=RAW, deduplicate=False, labels=train.meta.labels
    )
    assert decoded(valid, tokenizer) == [("a\u00a0b", "yes")] * 2
    assert valid.meta.labels == ["no", "yes"]
    with pytest.raises(
        UserError, match=r"m:1:label: the label 'yess' is not known: .*; mend the row \(did you mean yes\?\)"
    ):
        rows_of(labelled(("a", "yess")), labels=train.meta.labels)


def test_the_cleaning_that_is_asked_for_is_done(rows_of: Callable[..., RowShards], tokenizer: Tokenizer) -> None:
    rows = labelled(("ab", "1"), ("abcd", "0"), ("abcdefgh", "1"))
    shards = rows_of(rows, text=TextConfig(minimum_characters=3, maximum_characters=5))
    assert decoded(shards, tokenizer) == [("abcd", "0")]
    assert shards.meta.dropped == {"too short": 1, "too long": 1}


def test_labels_that_are_numbers_come_in_their_order(rows_of: Callable[..., RowShards]) -> None:
    shards = rows_of(labelled(*((f"t{label}", label) for label in ("10", "9", "-1", "b", "a"))))
    assert shards.meta.labels == ["-1", "9", "10", "a", "b"]


def test_cached_by_all_that_matters(rows_of: Callable[..., RowShards]) -> None:
    rows = labelled(("a", "1"), ("b", "0"))
    first = rows_of(rows)
    assert rows_of(rows).folder == first.folder
    others = [rows_of(rows, text=RAW), rows_of(rows, deduplicate=False), rows_of(rows, labels=["0", "1"])]
    others += [rows_of(rows, FieldsConfig(text="text", pair="label")), rows_of(labelled(("a", "1"), ("c", "0")))]
    assert len({shards.folder for shards in [first, *others]}) == 6
    (first.folder / "starts.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"damaged, starts\.bin has 0 bytes instead of 32"):
        RowShards(first.folder)
    assert len(rows_of(rows)) == 2  # made again


def test_a_fault_leaves_nothing_behind(rows_of: Callable[..., RowShards], tmp_path: Path) -> None:
    bad = memory([Document("a", "m", 1, fields={"label": "x"}), Document("b", "m", 2)])
    with pytest.raises(UserError, match="m:2:label: no such field"):
        rows_of(bad)
    assert list((tmp_path / "cache").iterdir()) == []


def test_scores_and_pairs(rows_of: Callable[..., RowShards], tokenizer: Tokenizer, shared: Path) -> None:
    fields = FieldsConfig(anchor="sentence1", positive="sentence2", score="score")
    path = shared / "data" / "glue" / "STS-B" / "train.tsv"
    shards = rows_of(corpus(str(path), field=fields.first), fields, text=RAW)
    scores = defaultdict(set)
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        cells = line.split("\t")
        scores[cells[7], cells[8]].add(float(cells[9]))
    expected = {pair: values.pop() for pair, values in scores.items() if len(values) == 1}
    assert shards.scores is not None and shards.labels is None
    found = {row[:2]: score for row, score in zip(decoded(shards, tokenizer), shards.scores.tolist(), strict=True)}
    assert len(found) == len(shards) == len(expected)
    assert found == pytest.approx({(a.strip(), b.strip()): score for (a, b), score in expected.items()})


@pytest.mark.parametrize(
    ("source", "fields", "count", "last"),
    [
        ("tatoeba_en_zh/cmn.txt", {"source": 1, "target": 2}, 20133, None),
        ("multi30k/val.{en,de}", {"source": "en", "target": "de"}, 1014, None),
    ],
)
def test_pairs_of_languages(
    rows_of: Callable[..., RowShards],
    tokenizer: Tokenizer,
    shared: Path,
    source: str,
    fields: Any,
    count: int,
    last: Any,
) -> None:
    config = FieldsConfig(**{role: str(column) for role, column in fields.items()})
    shards = rows_of(corpus(str(shared / "data" / source), field=config.first), config, deduplicate=False)
    assert len(shards) == count and shards.labels is None and shards.scores is None
    if source.startswith("tatoeba"):
        lines = (shared / "data" / source).read_text(encoding="utf-8").splitlines()
        pairs = [tuple(lines[n].split("\t")) for n in (0, 12345, 20132)]
    else:
        english, german = ((shared / "data" / f"multi30k/val.{name}").read_text().splitlines() for name in ("en", "de"))
        pairs = [(english[n].strip(), german[n].strip()) for n in (0, 12, 1013)]
    found = decoded(shards, tokenizer)
    for pair in pairs:
        assert any(row[:2] == pair for row in found)


def test_every_text_of_a_row_trains_a_tokenizer() -> None:
    rows = memory([Document("a", "m", fields={"b": "β"}), Document("c", "m", fields={"b": "γ"})])
    fields = FieldsConfig(source="a", target="b")
    assert [document.text for document in field_texts(rows, fields)] == ["a", "β", "c", "γ"]


def test_reviews_are_split_as_the_baseline_splits_them(rows_of: Callable[..., RowShards], tokenizer: Tokenizer) -> None:
    """Contradictory and repeated texts out; test = texts whose SHA-256 begins with a byte under 26."""
    seen = defaultdict(set)
    for label, path in zip(("positive", "negative"), paths("sample:zh-reviews"), strict=True):
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.strip():
                seen[line.strip()].add(label)
    theirs = {text: labels.pop() for text, labels in seen.items() if len(labels) == 1}
    held_out = {text for text in theirs if hashlib.sha256(text.encode()).digest()[0] < 26}
    train, test = split(corpus("sample:zh-reviews", field="text"), "hash:26/256")
    shards = rows_of(test, text=RAW, labels=["negative", "positive"])
    assert {(text, theirs[text]) for text in held_out} == set(decoded(shards, tokenizer))
    assert len(shards) == len(held_out) == 1756
    assert len({text.text.strip() for text in train.documents()} & set(theirs)) == len(theirs) - 1756


@pytest.mark.parametrize("dtype", [np.uint16])
def test_ids_are_as_the_tokenizer_gives_them(
    rows_of: Callable[..., RowShards], tokenizer: Tokenizer, dtype: Any
) -> None:
    shards = rows_of(labelled(("语文abc", "1"), ("x", "0")))
    assert shards.tokens.dtype == dtype
    assert shards.text(0, 0, 100).tolist() == tokenizer.encode("语文abc")
    assert shards.text(0, 0, 2).tolist() == tokenizer.encode("语文abc")[:2]
