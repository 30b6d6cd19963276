"""Documents become one stream as in training, in pieces that change nothing, with every byte counted once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import LINES, lines
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from yuwen.errors import UserError
from yuwen.evaluation import token_stream, tokens
from yuwen.text import Closing, Document
from yuwen.tokens import Tokenizer, TokenizerConfig, train

KINDS = ["bpe", "unigram", "wordpiece", "word", "char"]


def joined(documents: list[Document], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    parts = list(token_stream(documents, tokenizer))
    return [int(id) for part in parts for id in part.ids], [int(size) for part in parts for size in part.sizes]


def texts_between_ends(documents: list[Document]) -> list[str]:
    texts, begun = [""], False
    for document in documents:
        texts[-1] += ("\n" if begun else "") + document.text
        begun = document.closing == "line"
        if document.closing == "end":
            texts.append("")
    return texts


def encoded_whole(documents: list[Document], tokenizer: Tokenizer) -> list[int]:
    ids: list[int] = []
    for text in texts_between_ends(documents):
        ids += [*tokenizer.encode(text), tokenizer.end_id or 0]
    return ids[:-1]


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_joined_by_line_breaks(kind: str) -> None:
    tokenizer = train(LINES * 9, TokenizerConfig(kind=kind, vocabulary=400))  # type: ignore[arg-type]
    text = "\n".join(document.text for document in lines())
    ids, sizes = joined(lines(), tokenizer)
    assert ids == tokenizer.encode(text)
    assert sum(sizes) == len(text.encode())


def test_the_end_token_closes_files_and_records_and_stands_for_no_byte(bytewise: Tokenizer) -> None:
    documents = [Document("ab ", "x.txt", closing="none"), Document("语文\n", "x.txt"), Document("cd", "y.jsonl")]
    ids, sizes = joined(documents, bytewise)
    end = bytewise.end_id
    assert ids == [*bytewise.encode("ab 语文\n"), end, *bytewise.encode("cd"), end]
    assert sum(sizes) == 12 and {size for id, size in zip(ids, sizes, strict=True) if id == end} == {0}


PIECES = st.lists(
    st.tuples(st.text("a 山\n，1", max_size=12), st.sampled_from(["line", "end", "none"])), min_size=1, max_size=12
)


@settings(max_examples=200, deadline=None)
@given(PIECES, st.integers(1, 20))
def test_pieces_of_any_size_give_the_same_stream(
    bytewise: Tokenizer, parts: list[tuple[str, Closing]], size: int
) -> None:
    documents = [Document(text, "x", closing=closing) for text, closing in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_PIECE", size)
        ids, sizes = joined(documents, bytewise)
    assert ids == encoded_whole(documents, bytewise)
    assert sum(sizes) == sum(len(text.encode()) for text in texts_between_ends(documents))


def test_what_follows_decides_how_empty_lines_are_cut() -> None:
    """GPT-2's expression leaves the last white space to the word behind it, so its text is never cut there."""
    letters = {letter: id for id, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE({**letters, "ĊĊ": 256}, [("Ċ", "Ċ")]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    tokenizer = Tokenizer(backend, {"eos_token": "<|endoftext|>"})
    assert not tokenizer.cuts_at_lines
    documents = [Document("ab.\n\nEf\n" * 3, "x", closing="end")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_PIECE", 5)
        ids, _ = joined(documents, tokenizer)
    assert ids == encoded_whole(documents, tokenizer)


def test_white_space_that_a_kind_drops_still_counts() -> None:
    tokenizer = train(LINES * 9, TokenizerConfig(kind="wordpiece", vocabulary=400))
    ids, sizes = joined([Document("  \n ", "x"), Document("语文 ", "x")], tokenizer)
    assert ids == [tokenizer.end_id, *tokenizer.encode("语文"), tokenizer.end_id]
    assert sum(sizes) == 4 + 7


def test_memory_does_not_grow_with_the_data(bytewise: Tokenizer) -> None:
    taken = 0

    def endless() -> Iterator[Document]:
        nonlocal taken
        while True:
            taken += 1
            yield Document("从前有座山，山里有座庙。", "news", taken, "line")

    stream = token_stream(endless(), bytewise)
    parts = [next(stream) for _ in range(3)]
    assert taken < 20_000 and max(len(part.ids) for part in parts) < 100_000


@pytest.mark.parametrize("closing", ["line", "none"])
def test_nor_where_no_line_begins_with_a_word(
    closing: Closing, bytewise: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Chinese novel's paragraphs begin with wide spaces: no place to cut, and none is looked for twice."""
    monkeypatch.setattr(tokens, "_PIECE", 100)
    monkeypatch.setattr(tokens, "_WITHOUT", 3000)
    searched, find = [], tokens._last_cut
    monkeypatch.setattr(tokens, "_last_cut", lambda text: searched.append(len(text)) or find(text))
    text = "\u3000\u3000从前有座山。" + "\n" * (closing == "none")
    documents = [Document(text, "novel", n, closing) for n in range(2000)]
    parts = list(token_stream(documents, bytewise))
    assert len(parts) > 5 and max(part.sizes.sum() for part in parts) < 3 * 3100
    whole = sum(len(text.encode()) + (closing == "line") for _ in documents) - (closing == "line")
    assert sum(part.sizes.sum() for part in parts) == whole
    assert sum(searched) < 2 * whole


@pytest.mark.parametrize("size", [1, 30, 1 << 16])
def test_unknown_text_is_named_with_its_place(characters: Tokenizer, size: int) -> None:
    documents = [Document("the\n从前", "a.txt", closing="none"), Document("quick\nt山\nth鑫e", "b.txt", 7)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_PIECE", size)
        parts = list(token_stream(documents, characters))
    assert [part.unknown for part in parts if part.unknown] == ["b.txt:9: '鑫'"]


def test_a_line_number_counts_from_its_own_document(characters: Tokenizer) -> None:
    documents = [Document("the", "news", n, "line") for n in range(1, 30)] + [Document("quick 语", "news", 30, "line")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_PIECE", 10)
        unknown = [part.unknown for part in token_stream(documents, characters) if part.unknown]
    assert unknown[0] in ("news:30: ' '", "news:30: '语'")


def test_records_need_an_end_token(tmp_path: Path, bytewise: Tokenizer) -> None:
    bytewise.save(tmp_path)
    settings_file = tmp_path / "tokenizer_config.json"
    settings_file.write_text(settings_file.read_text(encoding="utf-8").replace("eos_token", "other"), encoding="utf-8")
    endless = Tokenizer.load(tmp_path)
    assert endless.end_id is None
    assert len(next(token_stream([Document("ab", "x", closing="line")], endless)).ids)
    with pytest.raises(UserError, match="no end token"):
        next(token_stream([Document("ab", "x")], endless))


def test_sizes_are_numbers_of_the_documents_bytes(bytewise: Tokenizer) -> None:
    part = next(token_stream([Document("语文 ab", "x", closing="line")], bytewise))
    assert part.ids.dtype == part.sizes.dtype == np.int32
    assert [bytewise.token_bytes(int(id)) for id in part.ids] == [
        "语文 ab".encode()[end - size : end] for size, end in zip(part.sizes, part.sizes.cumsum(), strict=True)
    ]
