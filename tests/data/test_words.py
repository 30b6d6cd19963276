"""Words told by a segmenter: their marks in the shards."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from data_corpora import lines, memory
from hypothesis import given
from hypothesis import strategies as st

from yuwen.cli.main import run
from yuwen.data import Shards, prepare
from yuwen.data.shards import DOCUMENT, WORD
from yuwen.data.words import Segmenter
from yuwen.errors import UserError
from yuwen.text import Document
from yuwen.tokens import Tokenizer, TokenizerConfig, train

TEXTS = ["我们在北京大学学习语文，今天天气很好！", "The cat isn't here 2024年。", "她来到了网易杭研大厦"]


def words_of(shards: Shards, tokenizer: Tokenizer) -> list[str]:
    """The text between marks."""
    starts = np.flatnonzero(np.asarray(shards.flags) & WORD)
    return [tokenizer.decode(part) for part in np.split(np.asarray(shards.tokens), starts) if len(part)]


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    return train([f"{text}\n" for text in TEXTS], TokenizerConfig(kind="char"))


def test_characters_make_words(characters: Tokenizer, tmp_path: Path) -> None:
    shards = prepare(memory(lines(TEXTS)), characters, tmp_path, words="jieba")
    words = words_of(shards, characters)
    assert words[:9] == ["我们", "在", "北京大学", "学习", "语文", "，", "今天天气", "很", "好"]
    assert "cat" in words and "2024" in words and "杭研" in words  # the last is in no dictionary
    assert "\n" in words
    plain = prepare(memory(lines(TEXTS)), characters, tmp_path)
    assert plain.folder != shards.folder
    assert words_of(plain, characters)[:3] == ["我", "们", "在"]
    assert (np.asarray(plain.tokens) == np.asarray(shards.tokens)).all()
    others = ~np.uint8(WORD)
    assert ((np.asarray(plain.flags) & others) == (np.asarray(shards.flags) & others)).all()


def test_a_token_that_a_word_reaches_into_starts_none(tokenizer: Tokenizer) -> None:
    text = "北京大学学习"
    ids, counts = tokenizer.encode_bytes(text)  # bytes: most tokens are parts of characters
    starts = Segmenter().starts(text, counts)
    place, ends = 0, []
    for count, start in zip(counts, starts, strict=True):
        if start:
            ends.append(place)
        place += int(count)
    assert ends == [0, len("北京大学".encode())]
    assert Segmenter().starts("", np.zeros(0, np.int32)).tolist() == []


def test_end_tokens_and_documents_are_marked_as_ever(characters: Tokenizer, tmp_path: Path) -> None:
    documents = [Document(text, "memory", n) for n, text in enumerate([*TEXTS, TEXTS[0]])]
    shards = prepare(memory(documents), characters, tmp_path, words="jieba")
    flags, tokens = np.asarray(shards.flags), np.asarray(shards.tokens)
    assert (flags[tokens == characters.end_id] & WORD == 0).all()
    assert ((flags & DOCUMENT) != 0).sum() == 3  # the fourth is a copy
    assert (flags[(flags & DOCUMENT) != 0] & WORD != 0).all()


def test_parts_and_processes_change_nothing(characters: Tokenizer, tmp_path: Path) -> None:
    parts = [Document(text + "\n", "file", n, "none") for n, text in enumerate(TEXTS * 3)]
    parts[-1] = Document(parts[-1].text, "file", 99, "end")
    one = prepare(memory(parts), characters, tmp_path / "a", words="jieba", workers=1)
    assert words_of(one, characters)[:3] == ["我们", "在", "北京大学"]
    from yuwen.data import workers
    from yuwen.data.encode import Batch, Encoder
    from yuwen.text import TextConfig

    encoder, batch = Encoder(characters, TextConfig(), "jieba"), Batch(TEXTS, ["end"] * 3)
    with workers.Workers(encoder, 1) as pool:
        there = pool.submit(batch).result()
    here = encoder(batch)
    assert there.words is not None and here.words is not None and (there.words == here.words).all()
    assert len(here.words) == len(here.ids)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_the_segmenter_loses_no_character(text: str) -> None:
    import rjieba

    assert "".join(rjieba.cut(text)) == text


def test_a_missing_package_is_named(characters: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(UserError, match=r"pip install 'yuwen\[words\]'"):
        prepare(memory(lines(TEXTS)), characters, tmp_path, words="jieba")


def test_the_command_takes_it(characters: Tokenizer, tmp_path: Path) -> None:
    characters.save(tmp_path / "tokenizer")
    (tmp_path / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    command = ["data", "prepare", str(tmp_path / "text.txt"), "--tokenizer", str(tmp_path / "tokenizer"), "--out"]
    assert run([*command, str(tmp_path / "out"), "--words", "jieba"]) == 0
    assert words_of(Shards(tmp_path / "out"), characters)[:3] == ["我们", "在", "北京大学"]
    assert run([*command, str(tmp_path / "other"), "--words", "jeiba"]) == 2


def test_english_words_begin_at_spaces_however_many_pieces_they_are(tmp_path: Path) -> None:
    """So `whole_words` hides them whole, without a segmenter."""
    text = "The overwhelming majority, of unprepared students, misunderstood it."
    tokenizer = train(["of over under mis stood ent"], TokenizerConfig(vocabulary=270))
    words = words_of(prepare(memory(lines([text])), tokenizer, tmp_path), tokenizer)
    assert max(len(tokenizer.encode(word)) for word in words) > 4
    assert "".join(words).strip() == text and [word for word in words if word.strip()][0] == "The"
    assert [word.strip(" .,") for word in words if word.strip(" .,\n")] == [
        word.strip(".,") for word in text.split()
    ]  # fmt: skip
