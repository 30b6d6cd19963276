"""Tokenizers of every kind, trained once on real Chinese, English and Python text."""

from __future__ import annotations

import argparse
import itertools
import pydoc_data.topics
import random
from pathlib import Path

import pytest

from yuwen.text import read
from yuwen.tokens import Tokenizer, TokenizerConfig, train, training_texts

KINDS = ["bpe", "unigram", "wordpiece", "word", "char"]
SIZES = {"bpe": 3000, "unigram": 400, "wordpiece": 3000, "word": 3000, "char": 8192}
ODD = [
    *(
        "",
        " ",
        "\n",
        "\r\n",
        "\t \n",
        "  x",
        "x  ",
        "a\n\n\nb",
        "　全角　空格　",
        "\u200b\u00a0\u2028x",
        "e\u0301é",
        "\x00\x1f",
    ),
    *(
        "😀👩‍👩‍👧‍👦🇨🇳",
        "don't WE'LL it's",
        "3.14159 2026年１２月",
        "<|endoftext|><|im_end|>",
        "##ing [MASK] <0xE4>",
        "𠮷𪚥㐂",
    ),
    *("AI技术和GPU", "ひらがなカタカナ漢字", "한국어", "العربية", "ไทย", "_snake_case(x) -> None:", "⟨E4⟩ Ġ Ċ ▁"),
]


@pytest.fixture(scope="session")
def lines() -> list[str]:
    """Thousands of varied lines: news, prose, code, and all that is odd, also mixed within a line."""
    news = [document.text for document in itertools.islice(read("sample:zh-news"), 2500)]
    prose = "".join(pydoc_data.topics.topics.values()).splitlines(keepends=True)[:2500]
    code = Path(argparse.__file__).read_text(encoding="utf-8").splitlines()
    rng = random.Random(5)
    pool = [*news, *prose, *code, *ODD]
    mixed = ["".join(rng.choice(pool)[: rng.randrange(1, 20)] for _ in range(5)) + rng.choice(ODD) for _ in range(1500)]
    return [*pool, *mixed]


@pytest.fixture(scope="session")
def trained() -> dict[str, Tokenizer]:
    """By kind."""
    news = list(training_texts(itertools.islice(read("sample:zh-news"), 1500)))
    texts = [*news, "".join(pydoc_data.topics.topics.values())[:200_000], Path(argparse.__file__).read_text("utf-8")]
    return {
        kind: train(
            [text[:1000] for text in texts[:60]] if kind == "unigram" else texts,
            TokenizerConfig(kind=kind, vocabulary=SIZES[kind]),
        )
        for kind in KINDS
    }


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, trained: dict[str, Tokenizer]) -> Tokenizer:
    return trained[request.param]
