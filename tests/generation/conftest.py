"""A tokenizer trained on a little text, and a small random model of every family."""

from __future__ import annotations

import pytest
from generation_models import TEXT, random_model

from yuwen.models import FAMILIES, Decoder
from yuwen.tokens import Tokenizer, TokenizerConfig, train


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train([TEXT], TokenizerConfig(vocabulary=320))


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Decoder:
    return random_model(request.param, tokenizer.size)
