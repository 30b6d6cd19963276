"""A byte-level tokenizer trained on the test's own lines."""

from __future__ import annotations

import pytest
from evaluation_cases import LINES

from yuwen.tokens import Tokenizer, TokenizerConfig, train


@pytest.fixture(scope="session")
def bytewise() -> Tokenizer:
    return train(LINES * 5, TokenizerConfig(vocabulary=320))


@pytest.fixture(scope="session")
def characters() -> Tokenizer:
    return train(["从前有座山the quick\n"], TokenizerConfig(kind="char", vocabulary=100))
