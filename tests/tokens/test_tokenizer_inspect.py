from __future__ import annotations

from yuwen.tokens import Tokenizer, inspect


def test_the_vocabulary_is_grouped_and_readable(tokenizer: Tokenizer) -> None:
    groups = inspect.vocabulary(tokenizer)
    assert sum(map(len, groups.values())) == tokenizer.size
    assert {entry["piece"] for entry in groups["special"]} >= {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert not any(
        "Ġ" in entry["piece"] or "\ufffd" in entry["piece"] for entries in groups.values() for entry in entries
    )
    if tokenizer.kind == "bpe":
        assert "中国" in [entry["piece"] for entry in groups["chinese"]]


def test_bytes_per_token_by_language(trained: dict[str, Tokenizer]) -> None:
    texts = ["中国人民，新年好。\nThe value of the class.\n12 34\n"]
    result = inspect.packing(trained["bpe"], texts)
    assert set(result) == {"chinese", "english", "other"}
    assert sum(numbers["bytes"] for numbers in result.values()) == len(texts[0].encode())
    assert result["chinese"]["bytes_per_token"] > 2
    characters = inspect.packing(trained["char"], ["a😀\n"])["english"]
    assert characters["unknown_tokens"] == 1 and characters["characters_per_token"] == 1


def test_how_a_text_is_cut(trained: dict[str, Tokenizer]) -> None:
    result = inspect.cut(trained["bpe"], "中国 the")
    assert "".join(result["pieces"]) == "中国 the"
    assert sum(result["bytes"]) == 10
