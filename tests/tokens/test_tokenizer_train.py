from __future__ import annotations

import time
from pathlib import Path

import pytest

from yuwen.errors import UserError
from yuwen.text import Document
from yuwen.tokens import Tokenizer, TokenizerConfig, train, training_texts
from yuwen.tokens.sample import PIECE, bounded_sample, pieces


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
def test_training_is_reproducible(kind: str, lines: list[str]) -> None:
    config = TokenizerConfig(kind=kind, vocabulary=1500)
    texts = [line for line in lines[::5] if line]
    assert train(texts, config).fingerprint == train(iter(texts), config).fingerprint


def test_vocabulary_counts_everything(trained: dict[str, Tokenizer]) -> None:
    assert trained["bpe"].size == 3000
    assert trained["unigram"].size == 400
    assert trained["wordpiece"].size == 3000
    assert trained["word"].size == 3000


def test_a_small_text_gives_a_small_vocabulary() -> None:
    assert train(["ab ab ab"], TokenizerConfig(vocabulary=8192)).size < 300


def test_tiny_shakespeare_has_65_characters(shared: Path) -> None:
    text = (shared / "data/tinyshakespeare/input.txt").read_text(encoding="utf-8")
    tokenizer = train([text], TokenizerConfig(kind="char"))
    assert tokenizer.size == 65 + 4
    start = time.process_time()
    ids = tokenizer.encode_batch([text])[0]
    assert time.process_time() - start < 0.5
    assert tokenizer.decode(ids) == text


def test_the_most_frequent_characters_are_kept() -> None:
    tokenizer = train(["aaabbc"], TokenizerConfig(kind="char", vocabulary=8))
    assert tokenizer.size == 4 + 3
    tokenizer = train(["abcdefaabb"], TokenizerConfig(kind="char", vocabulary=8))
    assert tokenizer.encode("ab")[0] != tokenizer.unknown_id


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "word", "char"])
def test_no_text_is_an_error(kind: str) -> None:
    with pytest.raises(UserError, match="empty"):
        train([], TokenizerConfig(kind=kind, vocabulary=300))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "bpee"}, "kind"),
        ({"vocabulary": 100}, "at least 259"),
        ({"vocabulary": -1}, "vocabulary"),
        ({"kind": "bpe", "cut": "spaces"}, "cut=spaces has no meaning for kind=bpe"),
        ({"kind": "word", "unknown": "<unk>"}, "only with cut=spaces"),
        ({"kind": "word", "cut": "spaces", "unknown": "a b"}, "one word of the text"),
        ({"kind": "char", "minimum_count": 2}, "minimum_count has no meaning"),
        ({"kind": "char", "sample_bytes": 2}, "sample_bytes has no meaning"),
        ({"vocab": 100}, "did you mean vocabulary"),
    ],
)
def test_settings_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TokenizerConfig.parse("tokenizer", values)


def test_sample_is_bounded_uniform_and_reproducible() -> None:
    texts = [f"{number:07d} " + "字" * 300 + "\n" for number in range(4000)]
    size = 400_000
    sample = bounded_sample(iter(texts), size)
    assert sample == bounded_sample(iter(texts), size)
    assert 0.95 * size < sum(len(piece.encode()) for piece in sample) <= size
    numbers = [int(piece[:7]) for piece in sample]
    assert numbers == sorted(numbers)
    assert 1600 < sum(numbers) / len(numbers) < 2400
    assert bounded_sample(texts, 1 << 30) == texts


def test_pieces_join_to_the_text_and_are_short() -> None:
    texts = ["字" * 100_000, ("a" * 70 + "\n") * 1000, "x", ""]
    parts = list(pieces(texts))
    assert "".join(parts) == "".join(texts)
    assert max(map(len, parts)) <= 2 * PIECE
    assert all(part.endswith("\n") for part in list(pieces(texts[1:2])))


def test_one_endless_run_of_characters_trains_quickly() -> None:
    text = "".join(chr(0x4E00 + number * 7919 % 3000) for number in range(200_000))
    start = time.process_time()
    train([text], TokenizerConfig(vocabulary=1000))
    assert time.process_time() - start < 10


def test_lines_keep_their_break() -> None:
    documents = [
        Document("a", "s", closing="line"),
        Document("b", "s", closing="end"),
        Document("c", "s", closing="none"),
    ]
    assert list(training_texts(documents)) == ["a\n", "b", "c"]


SPACED = " \n = Robert <unk> = \n \n Robert <unk> is a @-@ guest , of The Bill 's <unk> . \n"


def test_words_that_are_cut_already_stay_whole() -> None:
    config = TokenizerConfig(kind="word", cut="spaces", unknown="<unk>", vocabulary=50, minimum_count=1)
    tokenizer = train([SPACED], config)
    words = [word for line in SPACED.split("\n")[:-1] for word in [*line.split(), "\n"]]
    ids, sizes = tokenizer.encode_bytes(SPACED)
    assert [tokenizer.token_bytes(int(id)).decode() for id in ids] == words
    assert sizes.sum() == len(SPACED)
    assert tokenizer.size == len(set(words)) + 3
    assert tokenizer.decode(ids) == SPACED.strip(" ")
    assert (ids == tokenizer.unknown_id).sum() == 3 and "<unk>" in tokenizer.decode(ids)  # a word like others
    assert tokenizer.encode("Roberta") == [tokenizer.unknown_id]  # which also stands for what was never seen
    assert not tokenizer.special_ids & set(tokenizer.encode("<|endoftext|> <|im_end|>"))


def test_every_word_of_a_long_line_is_whole() -> None:
    words = [f"word{number}" for number in range(3000)]
    tokenizer = train([" ".join(words)], TokenizerConfig(kind="word", cut="spaces", vocabulary=9000, minimum_count=1))
    assert tokenizer.size == len(words) + 4


def test_an_unknown_word_that_no_text_writes_is_refused() -> None:
    with pytest.raises(UserError, match=r"tokenizer\.unknown='<unk>': the text has no such word"):
        train(["a b c"], TokenizerConfig(kind="word", cut="spaces", unknown="<unk>", vocabulary=20, minimum_count=1))


@pytest.mark.parametrize("pairs", [50, 51, 256, 257, 3000])
def test_no_word_is_unknown_for_its_length(pairs: int, tmp_path: Path) -> None:
    tokenizer = train(["ab ba abab\n" * 20], TokenizerConfig(kind="wordpiece", vocabulary=20))
    tokenizer.save(tmp_path)
    for each in (tokenizer, Tokenizer.load(tmp_path)):
        ids, sizes = each.encode_bytes("ab" * pairs)
        assert each.unknown_id not in ids and sizes.sum() == 2 * pairs
        assert each.decode(ids).replace(" ", "") == "ab" * pairs
