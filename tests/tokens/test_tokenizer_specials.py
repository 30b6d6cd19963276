"""Special tokens that a tokenizer is trained with: roles, ids elsewhere, and that text never becomes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.tokens import Tokenizer, TokenizerConfig, train

BERT = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
SENTINELS = ("<extra_id_0>", "<extra_id_1>", "<extra_id_2>")
TEXTS = ["我们在北京学习语文。The cat sat on the mat.\n", "她说：今天天气很好！It is warm, isn't it?\n"] * 5
ODD = ["", "我们 cat", "[MASK] is text here", "<extra_id_0>[CLS]", "  x\n\ny ", "语文。"]
SIZES = {"bpe": 320, "unigram": 300, "wordpiece": 200, "word": 100, "char": 100}


def made(kind: str, *specials: str) -> Tokenizer:
    return train(TEXTS, TokenizerConfig(kind=kind, vocabulary=SIZES[kind], specials=specials))


@pytest.mark.parametrize("kind", SIZES)
def test_names_say_their_roles(kind: str, tmp_path: Path) -> None:
    made(kind, *BERT, *SENTINELS).save(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    roles = {role: tokenizer.id_of(f"{role}_token") for role in ("pad", "cls", "sep", "mask")}
    assert [tokenizer.decode([id], skip_special=False) for id in roles.values() if id is not None] == list(BERT)
    assert {tokenizer.pad_id, tokenizer.mask_id} == {roles["pad"], roles["mask"]}
    assert tokenizer.decode([tokenizer.end_id or 0], skip_special=False) == "<|endoftext|>"
    assert len(tokenizer.special_ids) == 3 + len(BERT) + len(SENTINELS) + (tokenizer.unknown_id is not None)
    assert tokenizer.size <= SIZES[kind]


@pytest.mark.parametrize("kind", SIZES)
def test_transformers_opens_it_with_equal_ids(kind: str, tmp_path: Path) -> None:
    ours = made(kind, *BERT, *SENTINELS)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert [theirs.pad_token, theirs.cls_token, theirs.sep_token, theirs.mask_token] == list(BERT)
    assert (theirs.pad_token_id, theirs.mask_token_id) == (ours.pad_id, ours.mask_id)
    frame = [ours.id_of("cls_token"), ours.id_of("sep_token")]
    for text in ODD:
        ids = ours.encode(text, specials=True)
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.encode(text) == [frame[0], *ids, frame[1]]
    pair = theirs("我们", "语文")
    one, other = ours.encode("我们"), ours.encode("语文")
    assert pair["input_ids"] == [frame[0], *one, frame[1], *other, frame[1]]


@pytest.mark.parametrize("kind", SIZES)
def test_text_that_looks_like_one_stays_text(kind: str) -> None:
    tokenizer = made(kind, *BERT, *SENTINELS)
    specials = tokenizer.special_ids - {tokenizer.unknown_id}
    assert not any(specials & set(tokenizer.encode(text)) for text in ODD)


TYPED = ("[SEP]", "USER", "<x>")  # a word with its marks where spaces alone part words; one of letters alone
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
parts = st.sampled_from([*TYPED, "[CLS]", "<|im_end|>", "<|unk|>", "我们", "cat", " ", "\n", "U", "SER", "##"])


@pytest.fixture(scope="module")
def typed() -> dict[str, Tokenizer]:
    spaces = TokenizerConfig(kind="word", cut="spaces", vocabulary=100, specials=TYPED)
    return {**{kind: made(kind, *TYPED) for kind in SIZES}, "spaces": train(TEXTS, spaces)}


@settings(deadline=None)
@given(text=st.lists(parts | anything, max_size=8).map("".join))
def test_no_text_becomes_a_special_token(typed: dict[str, Tokenizer], text: str) -> None:
    for tokenizer in typed.values():
        ids, sizes = tokenizer.encode_bytes(text)
        assert ids.tolist() == tokenizer.encode(text) == tokenizer.encode_batch(["cat", text])[1].tolist()
        assert not (tokenizer.special_ids - {tokenizer.unknown_id}) & set(ids.tolist())
        assert sizes.sum() == len(text.encode()) or not len(ids)
        if tokenizer.byte_level:
            assert tokenizer.decode(ids) == text


def test_what_words_alone_cannot_spell_is_unknown(typed: dict[str, Tokenizer]) -> None:
    spaces, word = typed["spaces"], typed["word"]
    assert set(spaces.encode("[SEP]")) == {spaces.unknown_id}
    assert set(word.encode("USER")) == {word.unknown_id}
    assert word.encode("USER", specials=True) != word.encode("USER")


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "word"])
def test_what_is_typed_in_a_message_stays_text(typed: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = typed[kind]
    [user] = tokenizer.encode("USER", specials=True)
    rendered = tokenizer.render([{"role": "user", "content": "a USER b"}])
    assert user in tokenizer.special_ids and user not in rendered.ids
    assert len(rendered.ids) == len(rendered.mask)
    assert not tokenizer.byte_level or "a USER b" in tokenizer.decode(rendered.ids)


def test_a_raw_prompt_has_no_frame() -> None:
    assert not made("bpe", *BERT).adds_start


def test_sentinels_alone_give_no_frame(tmp_path: Path) -> None:
    made("bpe", "[PAD]", *SENTINELS).save(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert described["post_processor"] is None
    assert json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))["pad_token"] == "[PAD]"


def test_without_any_nothing_changes() -> None:
    plain = made("char")
    assert (plain.id_of("cls_token"), plain.mask_id, plain.pad_id) == (None, None, plain.end_id)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"specials": ["[CLS]", "[CLS]"]}, "given twice"),
        ({"specials": ["<|endoftext|>"]}, "there already"),
        ({"specials": [" "]}, "empty"),
        ({"specials": ["X"]}, "'X' is a character"),
        ({"vocabulary": 261, "specials": list(BERT)}, "at least 263"),
        ({"kind": "char", "vocabulary": 8, "specials": list(BERT)}, "at least 9"),
    ],
)
def test_mistakes_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TokenizerConfig.parse("tokenizer", values)


def test_what_an_objective_needs_is_added_once() -> None:
    config = TokenizerConfig(specials=("[CLS]", "<x>")).with_specials(BERT)
    assert config.specials == ("[CLS]", "<x>", "[PAD]", "[SEP]", "[MASK]")
    with pytest.raises(UserError, match="no room"):
        TokenizerConfig(vocabulary=260).with_specials(BERT)


def test_the_command_takes_them(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("".join(TEXTS), encoding="utf-8")
    command = ["tokenizer", "train", str(tmp_path / "text.txt"), "--kind", "char", "--out", str(tmp_path / "out")]
    assert run([*command, "--special", "[PAD]", "--special", "[MASK]"]) == 0
    tokenizer = Tokenizer.load(tmp_path / "out")
    assert tokenizer.mask_id is not None and tokenizer.pad_id not in (None, tokenizer.end_id)
    assert run([*command, "--special", "[MASK]", "--special", "[MASK]"]) == 2
