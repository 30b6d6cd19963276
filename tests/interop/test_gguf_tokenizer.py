"""Vocabularies of GGUF files: both kinds, both ways, against their definition and against published tokenizers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from yuwen.errors import UserError
from yuwen.interop.gguf import gguf_tokenizer
from yuwen.interop.gguf.pretokenizers import CUTTINGS, cutting, name_of_cutting
from yuwen.interop.gguf.tokenizer import end_ids
from yuwen.interop.gguf.vocabulary import gguf_vocabulary
from yuwen.tokens import Tokenizer

TEXT = """The quick brown fox can't jump; it'll THINK it's 2024, or 12345? Don't!\n\n  def main(x):\n\treturn x + 1
语文是语言和文字，也是说话和写作。中国人民日报报道：新华社北京电，１９９８年。
naïve café Ωμέγα Привет 한국어 カタカナ 😀👍🏽\r\n"""
LINES = [
    *TEXT.splitlines(keepends=True),
    *("", " ", "  \t\n\n \r\n x", "I'LL we'Re 's", "1234567 ½ Ⅷ ٣", "a\u0301e\u0301 ﬁ"),
    *("👩\u200d👩\u200d👧\ufe0f", "\x00\x7f\u3000\ufeff"),
    *("<|end|>", "x<|end|>y", "don’t", "  中国  English混合 text", "__init__(self)->None:", "\u0378"),
]  # fmt: skip


def byte_level(name: str) -> tuple[Backend, dict[str, Any]]:
    """A tokenizer trained with that rule of cutting, and the settings of a file that holds it."""
    rule = CUTTINGS[name]
    backend = Backend(models.BPE())
    backend.pre_tokenizer = rule.pre_tokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|end|>"], initial_alphabet=alphabet, min_frequency=1, show_progress=False
    )
    backend.train_from_iterator([TEXT] * 3, trainer)
    described = json.loads(backend.to_str())
    described["model"]["ignore_merges"] = rule.whole_pieces
    backend = Backend.from_str(json.dumps(described))
    backend.decoder = decoders.ByteLevel()
    if (normalizer := rule.normalizer()) is not None:
        backend.normalizer = normalizer
    ours = Tokenizer(Backend.from_str(backend.to_str()), {"eos_token": "<|end|>"})
    return backend, gguf_vocabulary(ours, 610, chat=True)


@pytest.mark.parametrize("name", CUTTINGS)
def test_byte_level_comes_back(name: str) -> None:
    backend, values = byte_level(name)
    alike = {"starcoder": "smollm", "deepseek-r1-qwen": "qwen2"}  # the same rule under two names
    assert values["tokenizer.ggml.pre"] == alike.get(name, name)
    again = gguf_tokenizer(as_read(values))
    assert again is not None and again.size == backend.get_vocab_size() and again.special_ids == {0}
    for line in LINES:
        assert again.encode(line, specials=True) == backend.encode(line, add_special_tokens=False).ids
        assert again.decode(again.encode(line)) == (line if name not in ("qwen2", "deepseek-r1-qwen") else nfc(line))


@pytest.mark.parametrize(
    ("name", "published"),
    [("gpt-2", "GPT2Tokenizer"), ("qwen2", "Qwen2Tokenizer"), ("llama-bpe", "llama"), ("smollm", "smollm")],
)
def test_cuts_as_published(name: str, published: str) -> None:
    backend, values = byte_level(name)
    model = json.loads(backend.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    again = gguf_tokenizer(as_read(values))
    assert again is not None
    if published.endswith("Tokenizer"):
        theirs = getattr(transformers, published)(vocab=model["vocab"], merges=merges)
        cut = theirs.backend_tokenizer
    else:  # as their tokenizer.json files have it
        described = json.loads(backend.to_str())
        described["pre_tokenizer"] = PUBLISHED[published]
        cut = Backend.from_str(json.dumps(described))
    for line in LINES:
        if "<|" not in line:
            assert again.encode(line) == cut.encode(line, add_special_tokens=False).ids, line


_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PUBLISHED = {
    "llama": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": _LLAMA3}, "behavior": "Isolated", "invert": False},
            _BYTES,
        ],
    },
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, {**_BYTES, "use_regex": True}],
    },
}


def test_a_rule_that_llama_cpp_lacks() -> None:
    described = {"model": {}, "pre_tokenizer": {"type": "Whitespace"}}
    with pytest.raises(UserError, match="llama.cpp has no rule that cuts text as this tokenizer does"):
        name_of_cutting(described)
    with pytest.raises(UserError, match="tokenizer.ggml.pre 'kimi-k2' is not known here"):
        cutting("kimi-k2")


# SentencePiece -------------------------------------------------------------------------------------------------------

PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
WORDS = [
    "▁",
    "a",
    "b",
    "c",
    "ab",
    "bc",
    "abc",
    "▁a",
    "▁ab",
    "▁▁",
    "中",
    "文",
    "中文",
    "é",
    "aa",
    "aaa",
    "▁b",
    "c▁",
    "b▁a",
]


def sentencepiece(prefix: bool = False, **more: Any) -> dict[str, Any]:
    words = [*WORDS, "<user>"]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(WORDS), 4]
    scores = [0.0] * 259 + [-float((7 * n) % 23) - n / 100 for n in range(len(words))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": PIECES + words,
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.scores": np.array(scores, np.float32),
        "tokenizer.ggml.add_space_prefix": prefix,
        **more,
    }


def by_definition(settings: dict[str, Any], line: str) -> list[int]:
    """Kudo & Richardson 2018, section 3.1: join the neighbours whose joint piece scores best, leftmost first."""
    pieces, kinds = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    ids = {piece: id for id, piece in enumerate(pieces) if kinds[id] == 1}
    out: list[int] = []
    for number, part in enumerate(line.split("<user>")):
        out += [pieces.index("<user>")] if number else []
        if settings["tokenizer.ggml.add_space_prefix"] and part:
            part = " " + part
        symbols = list(part.replace(" ", "▁"))
        while True:
            pairs = [(i, ids.get(symbols[i] + symbols[i + 1])) for i in range(len(symbols) - 1)]
            best = [(-settings["tokenizer.ggml.scores"][id], i) for i, id in pairs if id is not None]
            if not best:
                break
            at = min(best)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        for symbol in symbols:
            out += [ids[symbol]] if symbol in ids else [3 + byte for byte in symbol.encode()]
    return out


@pytest.mark.parametrize("prefix", [False, True])
@settings(max_examples=150, deadline=None)
@given(line=st.text(st.sampled_from("abc 中文é😀\n"), max_size=24))
def test_sentencepiece_joins_as_it_is_defined(prefix: bool, line: str) -> None:
    values = sentencepiece(prefix)
    tokenizer = gguf_tokenizer(values)
    assert tokenizer is not None
    assert tokenizer.encode(line) == by_definition(values, line)
    assert tokenizer.decode(tokenizer.encode(line)) == line


def test_what_a_person_types_never_becomes_a_control_token() -> None:
    tokenizer = gguf_tokenizer(sentencepiece())
    assert tokenizer is not None
    ids = tokenizer.encode("<s></s><unk><0x41><user>a")
    assert not {0, 1, 2} & set(ids) and PIECES.index("<0x41>") not in ids
    assert ids[-2:] == [len(PIECES) + len(WORDS), len(PIECES) + 1], "user-defined ones are taken out first"
    assert tokenizer.encode("<s>a", specials=True)[0] == 1


RUNS = ["  ", "   ", "    "]  # of spaces, as Gemma's files have them: user-defined, with the worst score of all


def test_runs_of_spaces_are_pieces_of_the_text_as_normalised() -> None:
    """The rules of Gemma's published tokenizer.json over these pieces: a typed ▁ is a space like any other."""
    plain = sentencepiece()
    words = [word for word in WORDS if word != "▁▁"]
    scores = plain["tokenizer.ggml.scores"][: 259 + len(words)]
    values = {
        **plain,
        "tokenizer.ggml.tokens": [*PIECES, *words, *RUNS],
        "tokenizer.ggml.token_type": np.array([2, 3, 3, *[6] * 256, *[1] * len(words), *[4] * len(RUNS)], np.int32),
        "tokenizer.ggml.scores": np.array([*scores, *[-1000.0] * len(RUNS)], np.float32),
    }
    tokenizer = gguf_tokenizer(values)
    assert tokenizer is not None

    def pieces(line: str) -> list[str]:
        described = tokenizer.described()["model"]["vocab"]
        names = {id: piece for piece, id in described.items()}
        return [names[id] for id in tokenizer.encode(line)]

    assert pieces("    中") == ["▁▁▁▁", "中"] == pieces("▁▁▁▁中") == pieces("▁  ▁中")
    assert pieces("  abc") == ["▁▁", "abc"], "a run comes before any other joining"
    assert pieces(" " * 9) == ["▁▁▁▁", "▁▁▁▁", "▁"]
    for line in ["   a ab", "▁▁ a  b", " " * 11 + "中", "abc ab"]:
        assert tokenizer.decode(tokenizer.encode(line)) == line.replace("▁", " ")
    written = gguf_vocabulary(tokenizer, len(values["tokenizer.ggml.tokens"]), chat=True)
    assert written["tokenizer.ggml.tokens"][-3:] == RUNS, "as llama.cpp looks for them"
    again = gguf_tokenizer(as_read(written))
    assert again is not None
    for count in range(12):
        assert again.encode(" " * count + "a") == tokenizer.encode(" " * count + "a")


def test_roles_and_the_start_token() -> None:
    tokenizer = gguf_tokenizer(sentencepiece())
    assert tokenizer is not None
    assert (tokenizer.unknown_id, tokenizer.start_id, tokenizer.end_id) == (0, 1, 2)
    assert tokenizer.adds_start, "SentencePiece's files begin with <s> unless they say otherwise"
    without = gguf_tokenizer(sentencepiece(**{"tokenizer.ggml.add_bos_token": False}))
    assert without is not None and not without.adds_start
    assert end_ids(sentencepiece(**{"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.eot_token_id": 1})) == [1, 2]


def test_sentencepiece_written_and_read_again() -> None:
    values = sentencepiece(True)
    tokenizer = gguf_tokenizer(values)
    assert tokenizer is not None
    written = gguf_vocabulary(tokenizer, len(values["tokenizer.ggml.tokens"]), chat=True)
    assert written["tokenizer.ggml.model"] == "llama" and written["tokenizer.ggml.add_space_prefix"]
    assert written["tokenizer.ggml.add_bos_token"]
    again = gguf_tokenizer(as_read(written))
    assert again is not None
    for line in ["abc ab a中文b", "  <user> abcabc", "caab\n aaa", "😀"]:
        assert again.encode(line) == tokenizer.encode(line)


def test_none() -> None:
    assert gguf_tokenizer({}) is None
    assert gguf_tokenizer({"tokenizer.ggml.model": "none"}) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer.ggml.model": "bert"}, "'bert' cannot be read: only gpt2 and llama"),
        ({"tokenizer.ggml.tokens": 5}, "tokenizer.ggml.tokens is not a list of texts"),
        ({"tokenizer.ggml.tokens": ["a", "a"], "tokenizer.ggml.token_type": np.ones(2)}, "holds a piece twice"),
        ({"tokenizer.ggml.token_type": np.ones(3)}, "token_type is not one number for each piece"),
        ({"tokenizer.ggml.scores": np.ones(3)}, "scores is not one number for each piece"),
        ({"tokenizer.ggml.scores": "high"}, "scores is not one number for each piece"),
        ({"tokenizer.ggml.bos_token_id": 10**6}, "bos_token_id is 1000000, which is none of the 279 tokens"),
        ({"tokenizer.ggml.bos_token_id": "<s>"}, "bos_token_id is <s>, which is none"),
        ({"tokenizer.ggml.add_bos_token": 1}, "add_bos_token is neither true nor false"),
        ({"tokenizer.ggml.model": "gpt2"}, "tokenizer.ggml.merges is not a list of texts"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": ["abc"]}, "holds what is not two pieces"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": ["a zz"]}, "does not hold together"),
    ],
)
def test_a_vocabulary_that_contradicts_itself(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        gguf_tokenizer({**sentencepiece(), **change})


def as_read(values: dict[str, Any]) -> dict[str, Any]:
    """Settings as the reader gives them: numbers in arrays."""
    arrays = {"tokenizer.ggml.token_type": np.int32, "tokenizer.ggml.scores": np.float32}
    return {name: np.array(value, arrays[name]) if name in arrays else value for name, value in values.items()}


def nfc(line: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", line)
