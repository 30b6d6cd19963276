"""kind=bpe, cut=characters: a token is a character or a part of one, and any text can be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yuwen.errors import UserError
from yuwen.tokens import Tokenizer, TokenizerConfig, train

TEXT = "语文是说话和写字。A language model speaks and writes: 语文，语文！\n" * 3 + "罕🙂"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train([TEXT], TokenizerConfig(kind="bpe", cut="characters", vocabulary=400))


def test_common_characters_are_tokens_and_rare_ones_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.pieces(tokenizer.encode("语文 and")) == ["语", "文", " ", "a", "n", "d"]
    assert len(tokenizer.encode("罕")) == 3 == len("罕".encode()), "seen once"
    assert len(tokenizer.encode("人")) in (2, 3), "never seen; its first bytes may be those of others"
    assert tokenizer.unknown_id is None


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(TEXT), max_size=20))
def test_any_text_is_written_and_no_token_reaches_over_a_character(tokenizer: Tokenizer, text: str) -> None:
    ids, sizes = tokenizer.encode_bytes(text)
    assert ids.tolist() == tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert [size for character in text for size in tokenizer.encode_bytes(character)[1]] == sizes.tolist()


def test_it_is_saved_with_the_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert again.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("kind", ["char", "word", "wordpiece", "unigram"])
def test_only_bytes_can_spell(kind: str) -> None:
    with pytest.raises(UserError, match=f"cut=characters has no meaning for kind={kind}: leave it out"):
        TokenizerConfig.parse("tokenizer", {"kind": kind, "cut": "characters"})
