from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from yuwen.errors import UserError
from yuwen.tokens import Tokenizer
from yuwen.tokens.pieces import ENDS_SENTENCE, STARTS_WORD

BYTE_LEVEL = ["bpe", "unigram"]
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
scripts = st.text("中国人民ab 的Z\n\r\t，。!'12３é\u0301😀ひ<|>\u3000", max_size=60)


@settings(deadline=None)
@given(text=anything | scripts)
def test_byte_level_round_trip_is_exact(trained: dict[str, Tokenizer], text: str) -> None:
    for kind in BYTE_LEVEL:
        assert trained[kind].decode(trained[kind].encode(text)) == text


@settings(deadline=None)
@given(text=anything | scripts)
def test_every_byte_is_accounted_for_once(trained: dict[str, Tokenizer], text: str) -> None:
    for tokenizer in trained.values():
        ids, counts = tokenizer.encode_bytes(text)
        assert ids.tolist() == tokenizer.encode(text)
        assert ids.dtype == counts.dtype == np.int32
        assert (counts >= 0).all()
        assert counts.sum() == len(text.encode()) or not len(ids)


def test_dropped_spaces_count_for_the_following_token(trained: dict[str, Tokenizer]) -> None:
    ids, counts = trained["wordpiece"].encode_bytes("  if  的 \n")
    assert trained["wordpiece"].pieces(ids) == ["if", "的"]
    assert counts.tolist() == [4, 7]


@settings(deadline=None)
@given(text=anything | scripts, data=st.data())
def test_streaming_equals_decoding(trained: dict[str, Tokenizer], text: str, data: st.DataObject) -> None:
    for tokenizer in trained.values():
        noise = data.draw(st.lists(st.integers(0, tokenizer.size - 1), max_size=8))
        for ids in (tokenizer.encode(text), tokenizer.encode(text) + noise if tokenizer.byte_level else []):
            stream = tokenizer.stream()
            parts = [stream.feed(id) for id in ids]
            assert "".join(parts) + stream.flush() == tokenizer.decode(ids)


def test_streaming_never_splits_a_character(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["bpe"]
    ids = tokenizer.encode("𠮷😀")
    assert len(ids) > 2
    stream = tokenizer.stream()
    assert [part for part in map(stream.feed, ids) if part] == ["𠮷", "😀"]


@settings(deadline=None)
@given(before=anything | scripts, after=scripts.filter(lambda text: text[:1].strip() != ""))
def test_a_file_can_be_cut_before_a_line(trained: dict[str, Tokenizer], before: str, after: str) -> None:
    for kind in ("bpe", "unigram", "char", "word"):
        tokenizer = trained[kind]
        whole = tokenizer.encode(before + "\n" + after)
        assert whole == tokenizer.encode(before + "\n") + tokenizer.encode(after)


def test_batch_equals_single(tokenizer: Tokenizer, lines: list[str]) -> None:
    batch = tokenizer.encode_batch(lines[::7])
    assert all(ids.dtype == np.int32 for ids in batch)
    assert [ids.tolist() for ids in batch] == [tokenizer.encode(line) for line in lines[::7]]


def test_chinese_and_latin_never_share_a_token(trained: dict[str, Tokenizer]) -> None:
    for piece in trained["bpe"].pieces(range(trained["bpe"].size)):
        han = any("\u4e00" <= character <= "\u9fa5" for character in piece)
        assert not (han and any(character in "abcdefghijklmnopqrstuvwxyz " for character in piece)), piece


def test_special_text_stays_text(tokenizer: Tokenizer) -> None:
    text = "a<|endoftext|>b"
    assert tokenizer.end_id not in tokenizer.encode(text)
    assert tokenizer.end_id not in tokenizer.encode_batch([text])[0]
    assert tokenizer.encode(text, specials=True).count(tokenizer.end_id) == 1
    assert tokenizer.end_id not in tokenizer.encode(text)  # the other call switches nothing


def test_characters_round_trip_and_unknown(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["char"]
    assert tokenizer.decode(tokenizer.encode("中国 abc\n")) == "中国 abc\n"
    assert tokenizer.encode("a😀") == [*tokenizer.encode("a"), tokenizer.unknown_id]
    assert len(tokenizer.encode("中国 abc\n")) == 7


def test_words_join_again(trained: dict[str, Tokenizer]) -> None:
    for kind in ("word", "wordpiece"):
        text = "If the value is 1, the 人民 in 中国。"
        assert trained[kind].decode(trained[kind].encode(text)) == text.replace(" 人", "人").replace(
            "民 ", "民"
        ).replace("in 中", "in中")


def test_pieces_are_readable(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["bpe"]
    assert "中国" in tokenizer.pieces(range(tokenizer.size))
    assert " the" in tokenizer.pieces(range(tokenizer.size))
    assert tokenizer.pieces(tokenizer.encode("𠮷")) == ["⟨F0⟩", "⟨A0⟩", "⟨AE⟩", "⟨B7⟩"]
    assert tokenizer.pieces([10**9]) == [""]


def test_flags(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["bpe"]
    flags = tokenizer.flags()
    assert flags.dtype == np.uint8 and len(flags) == tokenizer.size
    by_piece = dict(zip(tokenizer.pieces(range(tokenizer.size)), flags.tolist(), strict=True))
    assert by_piece[" the"] == STARTS_WORD
    assert by_piece["中国"] == STARTS_WORD
    assert by_piece["ing"] == 0
    assert by_piece["。"] == STARTS_WORD | ENDS_SENTENCE
    assert by_piece["\n"] & ENDS_SENTENCE
    assert by_piece["<|im_end|>"] == 0
    pieces = trained["wordpiece"].pieces(range(trained["wordpiece"].size))
    wordpiece = dict(zip(pieces, trained["wordpiece"].flags().tolist(), strict=True))
    assert wordpiece["##ing"] == 0 and wordpiece["if"] == STARTS_WORD


def test_half_a_surrogate_is_named(trained: dict[str, Tokenizer]) -> None:
    for call in ("encode", "encode_bytes"):
        with pytest.raises(UserError, match="surrogate"):
            getattr(trained["bpe"], call)("a\ud800")


@pytest.mark.parametrize("wrong", [None, b"a", 7])
def test_what_is_no_text_is_named(tokenizer: Tokenizer, wrong: object) -> None:
    for call in (tokenizer.encode, tokenizer.encode_bytes):
        with pytest.raises(UserError, match=f"a text to encode is a {type(wrong).__name__}, not a string"):
            call(wrong)  # type: ignore[operator]


def test_save_and_load_keep_everything(tokenizer: Tokenizer, tmp_path: Path, lines: list[str]) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert (again.kind, again.size, again.end_id, again.pad_id, again.unknown_id, again.chat_template) == (
        *(tokenizer.kind, tokenizer.size, tokenizer.end_id, tokenizer.pad_id, tokenizer.unknown_id),
        tokenizer.chat_template,
    )
    for line in lines[::50]:
        assert again.encode(line) == tokenizer.encode(line)


def test_a_changed_vocabulary_changes_the_fingerprint(trained: dict[str, Tokenizer]) -> None:
    assert len({tokenizer.fingerprint for tokenizer in trained.values()}) == len(trained)


def sentencepiece_like() -> Backend:
    """LLaMA 2's manner: spaces as ▁, unknown characters as bytes."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": byte + 3 for byte in range(256)}
    vocabulary |= {piece: 259 + place for place, piece in enumerate(["▁", "a", "b", "▁a", "中", "▁b"])}
    merges = [("▁", "a"), ("▁", "b")]
    backend = Backend(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    joined = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(joined)
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in ("<unk>", "<s>", "</s>")]
    )
    return backend


def test_a_foreign_tokenizer_with_byte_fallback(tmp_path: Path) -> None:
    backend = sentencepiece_like()
    backend.enable_truncation(4)
    backend.enable_padding(length=16)
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<s>"}, "unk_token": "<unk>"}')
    (tmp_path / "config.json").write_text('{"eos_token_id": [2, 1]}')
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.unknown_id, tokenizer.pad_id) == (1, 2, 0, None)
    text = "a b中😀 b"
    ids, counts = tokenizer.encode_bytes(text)
    assert tokenizer.pieces(ids) == [" a", " b", "中", "⟨F0⟩", "⟨9F⟩", "⟨98⟩", "⟨80⟩", " b"]
    assert counts.tolist() == [1, 2, 3, 4, 0, 0, 0, 2]
    assert tokenizer.decode(ids) == text
    stream = tokenizer.stream()
    assert [part for part in map(stream.feed, ids.tolist()) if part] == ["a", " b", "中", "😀", " b"]


def test_a_normalising_tokenizer_still_accounts_for_the_original(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    trained["bpe"].save(tmp_path)
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    backend.normalizer = normalizers.NFC()
    backend.save(str(tmp_path / "tokenizer.json"))
    _, counts = Tokenizer.load(tmp_path).encode_bytes("e\u0301 中文")
    assert counts.sum() == 10


def test_template_beside_the_files(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    trained["bpe"].save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert Tokenizer.load(tmp_path).chat_template == "{{ messages[0].content }}"
    (tmp_path / "chat_template.jinja").unlink()
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["chat_template"] = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert Tokenizer.load(tmp_path).chat_template == "d"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"model": {"type": "Unheard"}}'),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer_config.json", "{'a': 1}"),
        ("tokenizer_config.json", "[]"),
    ],
)
def test_malformed_files_are_named(
    trained: dict[str, Tokenizer], tmp_path: Path, name: str, content: str | bytes
) -> None:
    trained["word"].save(tmp_path)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=name):
        Tokenizer.load(tmp_path)


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer.json"):
        Tokenizer.load(tmp_path)


def test_a_character_tokenizer_that_normalises_is_no_code_point_table(tmp_path: Path) -> None:
    backend = Backend(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode("Ab") == [0, 1]
