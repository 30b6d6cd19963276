"""Small random models with the interface of `yuwen.load`, and their tokenizers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from task_models import TEXT, Ready, decoder, encoder

import yuwen
from yuwen.app.loading.load import Loaded
from yuwen.tokens import Tokenizer, TokenizerConfig, train


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train([TEXT], TokenizerConfig(vocabulary=330))


@pytest.fixture(scope="session", params=["gpt2", "qwen3", "llama"])
def ready(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Ready:
    """A decoder of each kind of position."""
    return decoder(tokenizer, request.param)


@pytest.fixture(scope="session")
def one(tokenizer: Tokenizer) -> Ready:
    """Any decoder."""
    return decoder(tokenizer, "llama")


@pytest.fixture(scope="session")
def chatting(tokenizer: Tokenizer) -> Ready:
    """A decoder that takes its prompts through the chat template."""
    return decoder(tokenizer, "llama", chat=True)


@pytest.fixture(scope="session")
def reads() -> Ready:
    """An encoder with a masked-word head."""
    return encoder()


def published(name: str) -> Path:
    """A real model's folder or file below $YUWEN_MODELS; the test skips where it is absent."""
    folder = os.environ.get("YUWEN_MODELS")
    if folder is None or not (Path(folder) / name).exists():
        pytest.skip(f"no {name}: set YUWEN_MODELS to a folder that holds it")
    return Path(folder) / name


@pytest.fixture(scope="session")
def minilm() -> Loaded:
    return yuwen.load(published("all-MiniLM-L6-v2"))


@pytest.fixture(scope="session")
def smollm2() -> Loaded:
    return yuwen.load(published("SmolLM2-135M-Instruct.Q4_1.gguf"))
