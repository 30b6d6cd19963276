"""A small byte-level tokenizer, and shards made of given documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tokenizers
from data_corpora import memory
from tokenizers import decoders, models, pre_tokenizers, trainers

from yuwen.data import Shards, prepare
from yuwen.text import Document
from yuwen.tokens import Tokenizer

LINES = ["语言是思想的衣裳。", "我们学习语文！Good morning, world.", "天下大事，必作于细。How are you?", "abc 123 的确"]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(LINES * 3, trainer)
    inner.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder)


@pytest.fixture(scope="session")
def make_shards(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Shards]:
    def make(documents: Sequence[Document], **settings: object) -> Shards:
        return prepare(memory(documents), tokenizer, tmp_path_factory.mktemp("cache"), **settings)

    return make


@pytest.fixture(scope="session")
def some_shards(make_shards: Callable[..., Shards]) -> Shards:
    return make_shards([Document(f"第{i}篇。{LINES[i % 4]} 完 {i * i}", "memory", i) for i in range(60)])
